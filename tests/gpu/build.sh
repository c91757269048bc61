#!/usr/bin/env bash
# Builds programs that need a GPU, for the one at hand.
#
#   tests/gpu/build.sh DIR TARGET...
set -euo pipefail

build=$1
shift
program=${0##*/}
fail() {
  echo "$program: $*" >&2
  exit 1
}

project=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
compute_cap=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | sed -n '1s/\.//p') || true
[[ -n $compute_cap ]] ||
  fail "there is no NVIDIA GPU that nvidia-smi can see; look at the driver, or use a machine with a GPU."
command -v apt-get >/dev/null && "$project/examples/install_dependencies.sh" build test
# Programs that start on a machine without a BLAS: none of what they time or test on the GPU needs one.
cmake -S "$project" -B "$build" -G Ninja -D CMAKE_BUILD_TYPE=Release -D CMAKE_CUDA_ARCHITECTURES="$compute_cap" \
  -D LNFREE_CUDA=ON -D LNFREE_GPU_TESTS=ON -D LNFREE_BLAS=OFF -D LNFREE_BUILD_EXAMPLES=OFF >"$build.log" 2>&1 || {
  cat "$build.log" >&2
  fail "the build could not be configured; CMake's output is above."
}
cmake --build "$build" --target "$@" || fail "the build failed; the compiler's output is above."
