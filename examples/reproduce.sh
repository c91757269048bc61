#!/usr/bin/env bash
# Trains the paper's configurations on real Python code, compares them and writes a report.
#
#   examples/reproduce.sh [--experiment NAME] [--scale NAME] [--recipe NAME] [--seed N] [--seeds K] [--corpus PATH]
#                         [--tokenizer FILE] [--skip-invalid] [--configs LIST] [--out DIR] [--device NAME] [--ranks N]
#                         [--live [PORT]]
#
#   --experiment NAME  @experiments
#                      all: those of the paper, the first @of_the_paper, in one report; beyond: the others;
#                      or several, separated by commas or spaces
#   --scale NAME       demo (default): 8 layers of width 64, 8 million tokens each, 18 minutes for four on two cores;
#                      smoke: the same path in under three minutes, to show that it works;
#                      gpt2_100m: the paper's models and recipe on 100 million tokens: three minutes each on an H200;
#                      gpt2: the paper's own run (124 M and 70 M parameters, one epoch of the corpus, which should be
#                      large): months on a CPU, so see --device; it prints an estimate before it starts
#   --recipe NAME      paper (default): that of the paper's code; clean: that of its text, without a final norm in
#                      norm-free models, without dropout, slopes not decayed; clean_untied: clean with an output
#                      matrix of its own
#   --seed N           seed of the weights, the order of the windows and dropout (default 0)
#   --seeds K          this many seeds from N on (default 1); the report then gives mean and standard deviation
#   --corpus PATH      a folder of Python files or a .jsonl file (one {"content": ...} per line);
#                      default: the standard library, pandas, matplotlib, sklearn and seaborn from Debian packages,
#                      at the scale gpt2_100m some 120 packages
#   --tokenizer FILE   a SentencePiece model or a tokenizer.json (default: one is trained on the corpus)
#   --skip-invalid     skip what cannot be read, is not UTF-8 or not JSON, instead of stopping
#   --configs LIST     configurations of examples/configurations.def, separated by commas or spaces, for the experiments
#                      without a choice of their own (default: @paper_table);
#                      changes in % refer to @baseline
#   --out DIR          where everything goes (default out/SCALE): report.html, report.md, results.json, figures/*.png
#                      and a folder per run with its log, metrics and checkpoint
#   --live [PORT]      while runs are trained, serves a page about them at http://127.0.0.1:PORT/
#                      (default 8765; 0: any free port)
#   --device NAME      cpu (default); cuda: an NVIDIA GPU, one run at a time, with CUDA's nvcc (12 or newer) and driver
#   --ranks N          trains each run with N processes that MPI starts, a power of two (default 1); docs/parallel.md
#
# First installs what is missing (apt; sudo when not root) and builds. After an interruption the same command continues
# where it was; another experiment or seed in the same folder uses the runs that are already there.
set -euo pipefail

program=${0##*/}
fail() {
  echo "$program: $*" >&2
  exit 1
}

project=$(realpath "$(dirname "$(realpath "${BASH_SOURCE[0]}")")/..")
definitions=$project/examples/configurations.def reproduce=$project/examples/reproduce

mapfile -t known_configs < <(sed -n 's/^CONFIGURATION(\([A-Za-z0-9_]*\),.*/\1/p' "$definitions")
mapfile -t known_recipes < <(sed -n 's/^RECIPE(\([A-Za-z0-9_]*\),.*/\1/p' "$definitions")
mapfile -t known_scales < <(sed -n 's/^    "\([A-Za-z0-9_]*\)": Scale($/\1/p' "$reproduce/scales.py")
read -r -a paper_table < <(sed -n 's/^PAPER_TABLE(\([A-Za-z0-9_, ]*\)).*/\1/p' "$definitions" | sed 's/,/ /g')
known_devices=(cpu cuda)

# The experiments with their own runs, in the order given by their files, with their descriptions. Bash
# iterates over an array by its indices.
known_experiments=() help_of=() of_the_paper=0
for file in "$reproduce"/experiments/*.py; do
  order='' help='' beyond=''
  while IFS= read -r line; do
    case $line in
      'ORDER = '*) order=${line#ORDER = } ;;
      'BEYOND = True') beyond=yes ;;
      'HELP = "'*) help=${line#HELP = \"} help=${help%\"} ;;
    esac
  done <"$file"
  if [[ $order && $help ]]; then
    place=$((100 * order + ${#known_experiments[@]}))
    known_experiments[place]=${file##*/} known_experiments[place]=${known_experiments[place]%.py} help_of[place]=$help
    [[ $beyond ]] || ((++of_the_paper))
  fi
done

# Prints the head of this file, with the names filled in.
usage() {
  local line place default
  sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}" | while IFS= read -r line; do
    if [[ $line == *@experiments ]]; then
      line=${line%@experiments} default=' (default)'
      for place in "${!known_experiments[@]}"; do
        echo "$line${known_experiments[place]}$default: ${help_of[place]}"
        line=${line//?/ } default=''
      done
    else
      line=${line/@paper_table/${paper_table[*]}}
      line=${line/@of_the_paper/$of_the_paper}
      echo "${line/@baseline/${paper_table[0]}}"
    fi
  done
}

experiments=("${known_experiments[@]}")
experiment=${experiments[0]} scale=demo recipe=${known_recipes[0]} corpus='' configs=${paper_table[*]} seed=0 seeds=1 out=''
tokenizer='' device=cpu ranks=1 skip_invalid=() live=''
while (($#)); do
  option=$1
  case $option in
    -h | --help)
      usage
      exit 0
      ;;
    --live=*)
      live=${option#*=}
      [[ -n $live ]] || fail "--live= needs a port; see --help."
      shift
      ;;
    --*=*)
      set -- "${option%%=*}" "${option#*=}" "${@:2}"
      continue
      ;;
    --experiment | --scale | --recipe | --seed | --seeds | --corpus | --configs | --out | --device | --ranks | --tokenizer)
      [[ -n ${2:-} ]] || fail "$option needs a value; see --help."
      printf -v "${option#--}" '%s' "$2"
      shift 2
      ;;
    --live)
      live=8765
      shift
      if [[ ${1:-} =~ ^[0-9]+$ ]]; then
        live=$1
        shift
      fi
      ;;
    --skip-invalid)
      skip_invalid=(--skip-invalid)
      shift
      ;;
    *) fail "unknown option '$option'; see --help." ;;
  esac
done

# All user errors are reported before anything is installed.
# one_of WHAT NAME KNOWN...: NAME is one of KNOWN.
one_of() {
  local what=$1 name=$2
  shift 2
  [[ " $* " == *" $name "* && $name != *' '* ]] || fail "unknown $what '$name'; choose from $*."
}
read -r -a experiments <<<"${experiment//,/ }"
((${#experiments[@]})) || fail "--experiment names no experiment; choose from ${known_experiments[*]} all beyond."
for experiment in "${experiments[@]}"; do one_of experiment "$experiment" "${known_experiments[@]}" all beyond; done
one_of scale "$scale" "${known_scales[@]}"
one_of recipe "$recipe" "${known_recipes[@]}"
one_of device "$device" "${known_devices[@]}"
if [[ $device == cuda && ! -x ${CUDA_PATH:-/usr/local/cuda}/bin/nvcc ]]; then
  command -v nvcc >/dev/null || fail "--device cuda needs CUDA's compiler nvcc, which is neither in PATH nor in" \
    "${CUDA_PATH:-/usr/local/cuda}/bin; install NVIDIA's CUDA toolkit, or set CUDA_PATH to where it is."
fi
[[ $seed =~ ^[0-9]{1,9}$ ]] || fail "--seed '$seed' is not a whole number from 0 to 999999999."
[[ $seeds =~ ^[0-9]{1,3}$ && $((10#$seeds)) -ge 1 ]] || fail "--seeds '$seeds' is not a whole number from 1 to 999."
[[ -z $live || ($live =~ ^[0-9]{1,5}$ && $((10#$live)) -le 65535) ]] ||
  fail "--live '$live' is not a port, a whole number from 0 to 65535."
[[ $ranks =~ ^(1|2|4|8|16)$ ]] || fail "--ranks '$ranks' is not one of 1, 2, 4, 8 and 16."
seed=$((10#$seed)) seeds=$((10#$seeds))
read -r -a configs <<<"${configs//,/ }"
((${#configs[@]})) || fail "--configs names no configuration; choose from ${known_configs[*]}."
for config in "${configs[@]}"; do one_of configuration "$config" "${known_configs[@]}"; done
if [[ -n $corpus ]]; then
  [[ -d $corpus || -f $corpus ]] ||
    fail "the corpus $corpus does not exist; give a folder of Python files or a .jsonl file."
  [[ -r $corpus ]] || fail "the corpus $corpus cannot be read."
  corpus=$(realpath "$corpus")
fi
if [[ -n $tokenizer ]]; then
  [[ -f $tokenizer && -r $tokenizer ]] ||
    fail "the tokenizer $tokenizer cannot be read; give a SentencePiece model or a tokenizer.json."
  tokenizer=$(realpath "$tokenizer")
fi
[[ -n $out ]] || out=$project/out/$scale
[[ ! -e $out || -d $out ]] || fail "$out is a file; --out needs a folder."
out=$(realpath -m "$out")

groups=(build report)
((ranks == 1)) || groups+=(mpi)
"$project/examples/install_dependencies.sh" "${groups[@]}"

# Debian's own interpreter, for which matplotlib and markdown were installed.
job=(/usr/bin/python3 "$reproduce" --experiment "${experiments[@]}" --scale "$scale"
  --recipe "$recipe" --seed "$seed" --seeds "$seeds" --out "$out" --configs "${configs[@]}" --device "$device" --ranks "$ranks"
  --programs "$project/build/release/bin" "${skip_invalid[@]}")
[[ -z $corpus ]] || job+=(--corpus "$corpus")
[[ -z $tokenizer ]] || job+=(--tokenizer "$tokenizer")
[[ -z $live ]] || job+=(--live "$((10#$live))")
"${job[@]}" --check

cd "$project"
echo "$program: building"
mapfile -t targets < <("${job[@]}" --targets)
build_log=$(mktemp)
trap 'rm -f "$build_log"' EXIT
# Whatever this folder was configured for before, build the programs, and nothing that needs more libraries.
options=(-DLNFREE_BUILD_EXAMPLES=ON -DLNFREE_BUILD_TESTS=OFF -DLNFREE_BUILD_BENCHMARKS=OFF)
# In a new folder, compile kernels only for this machine's GPU, if it can be identified.
if [[ $device == cuda && ! -f build/release/CMakeCache.txt ]] && command -v nvidia-smi >/dev/null; then
  capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | sed -n '1s/\.//p')
  [[ ! $capability =~ ^[0-9]+$ ]] || options+=("-DCMAKE_CUDA_ARCHITECTURES=$capability")
fi
cmake --preset release "${options[@]}" >"$build_log" 2>&1 || {
  cat "$build_log" >&2
  fail "the build could not be configured; CMake's output is above."
}
if [[ $device == cuda ]] && ! cmake --build --preset release --target help | grep "^${targets[-1]}:" >/dev/null; then
  fail "CMake found no CUDA toolkit with cuBLASLt beside nvcc, or build/release was configured without" \
    "LNFREE_CUDA; install the whole toolkit, or remove build/release."
fi
cmake --build --preset release --target "${targets[@]}" ||
  fail "the build failed; the compiler's output is above."
rm -f "$build_log"

exec "${job[@]}"
