#!/usr/bin/env bash
# Measures how fast lnfree trains GPT-2 on this machine's NVIDIA GPU, compared with the rate of a large
# product and with PyTorch.
#
#   benchmarks/gpu/run.sh [--quick] [--no-pytorch] [--build DIR] [--out DIR]
#
#   --quick       windows of 128 tokens and two configurations alone: ten minutes instead of half an hour
#   --no-pytorch  lnfree alone
#   --build DIR   runs the programs of DIR/bin as they are; without it they are built first, in build/gpu
#   --out DIR     where results.json and results.md go (default out/gpu-benchmarks)
#
# Needs PyTorch 2.1 or later with CUDA for python3: where that fails, lnfree is measured all the same. Nothing else should use
# the GPU meanwhile. docs/performance.md explains the figures; tests/gpu/run.sh --help says how to build elsewhere.
set -euo pipefail

source "$(dirname "$(realpath "${BASH_SOURCE[0]}")")/../../tests/gpu/prepare.sh" gpu_benchmarks gpu-benchmarks \
  '--quick --no-pytorch' "$@"

exec python3 -B "$project/benchmarks/gpu/compare.py" --build "$build" --out "$out" "${flags[@]}"
