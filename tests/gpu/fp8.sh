#!/usr/bin/env bash
# Compares training in FP8 with training in bf16 on this machine's NVIDIA GPU, which needs compute capability 8.9: the loss
# after 1,000 steps, which may differ by 0.5 %, and tokens per second by the model's width. Meant to take about five minutes.
#
#   tests/gpu/fp8.sh [--quick] [--build DIR] [--out DIR]
#
#   --quick      100 steps, and a second for each width
#   --build DIR  runs the program of DIR/bin as it is; without it it is built first, in build/gpu
#   --out DIR    where results.md goes (default out/gpu-fp8)
set -euo pipefail

source "$(dirname "$(realpath "${BASH_SOURCE[0]}")")/prepare.sh" gpu_fp8 gpu-fp8 --quick "$@"

mkdir -p "$out"
effort=(1000 10)
((${#flags[@]} == 0)) || effort=(100 1)
"$build/bin/gpu_fp8" "${effort[@]}" | tee "$out/results.md"
