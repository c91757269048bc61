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
# The programs can be built on a machine without a GPU, and need only CUDA's libraries to run:
#   cmake --preset release -B build/gpu -D LNFREE_GPU_TESTS=ON -D LNFREE_BLAS=OFF -D LNFREE_NATIVE=OFF \
#     -D CMAKE_CUDA_ARCHITECTURES=90        # that of the GPU
set -euo pipefail

source "$(dirname "$(realpath "${BASH_SOURCE[0]}")")/prepare.sh" gpu_tests gpu-tests --quick "$@"

# The interpreter that has PyTorch, if there is one.
python=python3
"$python" -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("torch") is None)' 2>/dev/null ||
  python=/usr/bin/python3
exec "$python" -B "$project/tests/gpu/run.py" --build "$build" --out "$out" "${flags[@]}"
