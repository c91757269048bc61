#!/usr/bin/env bash
# Measures how fast lnfree trains GPT-2 on this machine's NVIDIA GPU, beside the rate of a large product and beside PyTorch.
#
#   benchmarks/gpu/run.sh [--quick] [--build DIR] [--out DIR]
#
#   --quick      windows of 128 tokens and two configurations alone: ten minutes instead of half an hour
#   --build DIR  runs the programs of DIR/bin as they are; without it they are built first, in build/gpu
#   --out DIR    where results.json and results.md go (default out/gpu-benchmarks)
#
# Needs PyTorch 2.1 or later with CUDA for python3. Nothing else should use the GPU meanwhile. docs/performance.md explains
# the figures; tests/gpu/run.sh --help says how to build elsewhere.
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
out=$(realpath -m "${out:-$project/out/gpu-benchmarks}")
[[ ! -e $out || -d $out ]] || fail "$out is a file; --out needs a folder."
if [[ -n $build ]]; then
  build=$(realpath -m "$build")
else
  build=$project/build/gpu
  "$project/tests/gpu/build.sh" "$build" gpu_benchmarks
fi

exec python3 -B "$project/benchmarks/gpu/compare.py" --build "$build" --out "$out" "${quick[@]}"
