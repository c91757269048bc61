#!/usr/bin/env bash
# Compiles a trainer with nvcc and its host compiler, without optimization, which takes longest. NAME_fp8 and
# NAME_int8 are the trainers of NAME in eight bits.
#
#   trainer.sh NVCC PROJECT SCRATCH CONFIGURATION
set -euo pipefail

nvcc=$1 project=$2 scratch=$3 configuration=$4
mkdir -p "$scratch"
echo '#include "trainer.cpp"' >"$scratch/$configuration.cu"
name=$configuration device=()
for format in fp8 int8; do
  [[ $configuration == *_$format ]] || continue
  name=${configuration%_"$format"} device=(-DLNFREE_TRAINER_"${format^^}")
done
"$nvcc" -std=c++20 --expt-relaxed-constexpr -arch=sm_90 -Xcicc -O0 -Xptxas -O0 -I"$project/include" -I"$project/examples/trainers" \
  -DLNFREE_TRAINER_CUDA -DLNFREE_TRAINER_SHAPE=gpt2 -DLNFREE_TRAINER_RECIPE=paper -DLNFREE_TRAINER_CONFIGURATION="$name" \
  "${device[@]}" --cuda "$scratch/$configuration.cu" -o "$scratch/$configuration.ii"
g++ -std=c++20 -fsyntax-only -w -x c++-cpp-output "$scratch/$configuration.ii"
