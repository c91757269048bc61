#!/usr/bin/env bash
# Trains the paper's four configurations on real Python code, compares them and writes a report.
#
#   examples/reproduce.sh [--scale smoke|demo] [--corpus PATH] [--configs LIST] [--seed N] [--out DIR]
#
#   --scale NAME    demo (default): 8 layers of width 64, 8 million tokens each, 18 minutes on two cores;
#                   smoke: the same path in under three minutes, showing nothing but that it works
#   --corpus PATH   a folder of Python files or a .jsonl file (one {"content": ...} a line);
#                   default: the standard library, pandas, matplotlib, sklearn, seaborn from Debian packages
#   --configs LIST  some of sm_ln_g sm_ln_r sm_g sm_r, separated by commas or spaces (default: all four);
#                   changes in % refer to sm_ln_g
#   --seed N        seed of the weights, the order of the windows and dropout (default 0)
#   --out DIR       where everything goes (default out/SCALE-seedN): report.md, results.json, figures/*.png
#                   and a folder per configuration with its log, metrics and checkpoint
#
# Installs what is missing (apt; sudo when not root) and builds first. Interrupted, the same command goes on
# where it was.
set -euo pipefail

program=${0##*/}
fail() {
  echo "$program: $*" >&2
  exit 1
}

project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
scale=demo corpus='' configs='sm_ln_g sm_ln_r sm_g sm_r' seed=0 out=''
while (($#)); do
  option=$1
  case $option in
    -h | --help)
      sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
      exit 0
      ;;
    --*=*)
      set -- "${option%%=*}" "${option#*=}" "${@:2}"
      continue
      ;;
    --scale | --corpus | --configs | --seed | --out)
      [[ -n ${2:-} ]] || fail "$option needs a value; see --help."
      printf -v "${option#--}" '%s' "$2"
      shift 2
      ;;
    *) fail "unknown option '$option'; see --help." ;;
  esac
done

# Everything a person can get wrong is told before anything is installed.
[[ $scale == smoke || $scale == demo ]] || fail "unknown scale '$scale'; the scales are smoke and demo."
[[ $seed =~ ^[0-9]{1,9}$ ]] || fail "--seed '$seed' is not a whole number from 0 to 999999999."
seed=$((10#$seed))
read -r -a configs <<<"${configs//,/ }"
((${#configs[@]})) || fail "--configs names no configuration; choose from sm_ln_g sm_ln_r sm_g sm_r."
for config in "${configs[@]}"; do
  [[ $config =~ ^sm(_ln)?_[gr]$ ]] ||
    fail "unknown configuration '$config'; choose from sm_ln_g sm_ln_r sm_g sm_r."
done
if [[ -n $corpus ]]; then
  [[ -d $corpus || -f $corpus ]] ||
    fail "the corpus $corpus does not exist; give a folder of Python files or a .jsonl file."
  [[ -r $corpus ]] || fail "the corpus $corpus cannot be read."
  corpus=$(realpath "$corpus")
fi
[[ -n $out ]] || out=$project/out/$scale-seed$seed
[[ ! -e $out || -d $out ]] || fail "$out is a file; --out needs a folder."
out=$(realpath -m "$out")

"$project/examples/install_dependencies.sh" build report

# Debian's own interpreter: matplotlib and seaborn were installed for it.
job=(/usr/bin/python3 "$project/examples/reproduce.py" --scale "$scale" --seed "$seed" --out "$out"
  --configs "${configs[@]}" --programs "$project/build/release/bin")
[[ -z $corpus ]] || job+=(--corpus "$corpus")
"${job[@]}" --check

cd "$project"
echo "$program: building"
targets=(prepare_corpus "${configs[@]/#/train_demo_}")
build_log=$(mktemp)
trap 'rm -f "$build_log"' EXIT
# A build folder that is already there keeps its choices; a new one leaves the tests and their libraries out.
new_build=()
[[ -f build/release/CMakeCache.txt ]] || new_build=(-DLNFREE_BUILD_TESTS=OFF)
cmake --preset release "${new_build[@]}" >"$build_log" 2>&1 || {
  cat "$build_log" >&2
  fail "the build could not be configured; CMake's output is above."
}
cmake --build --preset release --target "${targets[@]}" ||
  fail "the build failed; the compiler's output is above."
rm -f "$build_log"

exec "${job[@]}"
