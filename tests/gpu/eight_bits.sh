#!/usr/bin/env bash
# Compares training in eight bits with training in bf16 on this machine's NVIDIA GPU: in INT8, and in FP8 if the GPU has
# compute capability 8.9. Prints the loss after 1,000 steps, which may differ by 0.5 %, tokens per second by the model's width, and
# the speed of products in INT8. Meant to take five to ten minutes.
#
#   tests/gpu/eight_bits.sh [--quick] [--build DIR] [--out DIR]
#
#   --quick      100 steps, and a second for each width
#   --build DIR  runs the program of DIR/bin as it is; without it it is built first, in build/gpu
#   --out DIR    where results.md goes (default out/gpu-eight-bits)
set -euo pipefail

source "$(dirname "$(realpath "${BASH_SOURCE[0]}")")/prepare.sh" gpu_eight_bits gpu-eight-bits --quick "$@"

mkdir -p "$out"
effort=(1000 10)
((${#flags[@]} == 0)) || effort=(100 1)
"$build/bin/gpu_eight_bits" "${effort[@]}" | tee "$out/results.md"
