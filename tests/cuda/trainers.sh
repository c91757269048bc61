#!/usr/bin/env bash
# Compiles trainers with nvcc and its host compiler, but without generating machine code, which takes longest.
# The configurations are those whose objectives have their own kernels; NAME_fp8 and NAME_int8 are the
# trainers of NAME in eight bits.
#
#   trainers.sh NVCC PROJECT SCRATCH CONFIGURATION...
set -euo pipefail

nvcc=$1 project=$2 scratch=$3
shift 3
mkdir -p "$scratch"
echo '#include "trainer.cpp"' >"$scratch/trainer.cu"
flags=(-std=c++20 --expt-relaxed-constexpr -arch=sm_90 -DLNFREE_TRAINER_CUDA -DLNFREE_TRAINER_SHAPE=gpt2
  -DLNFREE_TRAINER_RECIPE=paper -I"$project/include" -I"$project/examples/trainers")
for configuration; do
  name=$configuration device=()
  for format in fp8 int8; do
    [[ $configuration == *_$format ]] || continue
    name=${configuration%_"$format"} device=(-DLNFREE_TRAINER_"${format^^}")
  done
  "$nvcc" "${flags[@]}" "${device[@]}" -DLNFREE_TRAINER_CONFIGURATION="$name" --cuda "$scratch/trainer.cu" -o "$scratch/$configuration.ii"
  g++ -std=c++20 -fsyntax-only -w -x c++-cpp-output "$scratch/$configuration.ii"
done
