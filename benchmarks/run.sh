#!/usr/bin/env bash
# Measures how fast lnfree trains on this machine, compared with the machine's peak and with PyTorch.
#
#   benchmarks/run.sh [--quick] [--out DIR]
#
#   --quick    two configurations instead of four, no single primitives: a quarter of an hour on two cores
#              instead of over half an hour
#   --out DIR  where results.json and results.md go (default out/benchmarks)
#
# Installs what is missing (apt; sudo when not root) and builds first. Nothing else should run meanwhile: the
# table says when something did. docs/performance.md explains the figures.
set -euo pipefail

program=${0##*/}
fail() {
  echo "$program: $*" >&2
  exit 1
}

project=$(realpath "$(dirname "$(realpath "${BASH_SOURCE[0]}")")/..")
out='' quick=()
while (($#)); do
  case $1 in
    -h | --help)
      sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
      exit 0
      ;;
    --quick) quick=(--quick) ;;
    --out=*) out=${1#*=} ;;
    --out)
      [[ -n ${2:-} ]] || fail "--out needs a folder; see --help."
      out=$2
      shift
      ;;
    *) fail "unknown option '$1'; see --help." ;;
  esac
  shift
done
out=$(realpath -m "${out:-$project/out/benchmarks}")
[[ ! -e $out || -d $out ]] || fail "$out is a file; --out needs a folder."

"$project/examples/install_dependencies.sh" build benchmark

cd "$project"
echo "$program: building"
build_log=$(mktemp)
trap 'rm -f "$build_log"' EXIT
# Whatever this folder was configured for before, build the benchmarks, and nothing that needs more libraries.
cmake --preset release -DLNFREE_BUILD_BENCHMARKS=ON -DLNFREE_BUILD_TESTS=OFF >"$build_log" 2>&1 || {
  cat "$build_log" >&2
  fail "the build could not be configured; CMake's output is above."
}
cmake --build --preset release --target bench_training_step bench_primitives ||
  fail "the build failed; the compiler's output is above."
rm -f "$build_log"

# Debian's own interpreter, for which PyTorch was installed.
exec /usr/bin/python3 "$project/benchmarks/run.py" --build "$project/build/release" --out "$out" "${quick[@]}"
