#!/usr/bin/env bash
# Tests lnfree on this machine's NVIDIA GPU, in ten minutes at most; without a GPU it fails.
# Ends with a table and the line "N passed, N failed".
#
#   tests/gpu/run.sh [--quick] [--build DIR] [--out DIR]
#
#   --quick      leaves out compute-sanitizer
#   --build DIR  runs the programs of DIR/bin as they are; without it they are built first, in build/gpu
#   --out DIR    where results.json and the programs' logs go (default out/gpu-tests)
#
# The programs can be built on a machine without a GPU, and need CUDA's libraries alone where they run:
#   cmake --preset release -B build/gpu -D LNFREE_GPU_TESTS=ON -D LNFREE_BLAS=OFF -D LNFREE_NATIVE=OFF
set -euo pipefail

program=${0##*/}
fail() {
  echo "$program: $*" >&2
  exit 1
}

project=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
build='' out='' quick=()
while (($#)); do
  case $1 in
    -h | --help)
      sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
      exit 0
      ;;
    --quick) quick=(--quick) ;;
    --build | --out)
      [[ -n ${2:-} ]] || fail "$1 needs a folder; see --help."
      declare "${1#--}=$2"
      shift
      ;;
    *) fail "unknown option '$1'; see --help." ;;
  esac
  shift
done
out=$(realpath -m "${out:-$project/out/gpu-tests}")
[[ ! -e $out || -d $out ]] || fail "$out is a file; --out needs a folder."
if [[ -n $build ]]; then
  build=$(realpath -m "$build")
else
  build=$project/build/gpu
  "$project/tests/gpu/build.sh" "$build" gpu_tests
fi

# The interpreter that has PyTorch, where one does.
python=python3
"$python" -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("torch") is None)' 2>/dev/null ||
  python=/usr/bin/python3
exec "$python" -B "$project/tests/gpu/run.py" --build "$build" --out "$out" "${quick[@]}"
