#pragma once

/// What the trainers differ in: model, device and processes. CMake names them for each program:
///
///   LNFREE_TRAINER_SHAPE, LNFREE_TRAINER_CONFIGURATION, LNFREE_TRAINER_RECIPE   lines of configurations.def
///   LNFREE_TRAINER_BF16                              the device is CpuBF16 instead of Cpu
///   LNFREE_TRAINER_CUDA                              the device is Cuda
///   LNFREE_TRAINER_FP8 or LNFREE_TRAINER_INT8        with LNFREE_TRAINER_CUDA: CudaFP8 or CudaInt8
///   LNFREE_TRAINER_MPI, LNFREE_TRAINER_NCCL or both  the program may run as several processes
#if defined(LNFREE_TRAINER_BF16)
#include <lnfree/device/cpu/bf16.hpp>
#elif defined(LNFREE_TRAINER_FP8)
#include <lnfree/device/cuda/fp8.hpp>
#elif defined(LNFREE_TRAINER_INT8)
#include <lnfree/device/cuda/int8.hpp>
#elif defined(LNFREE_TRAINER_CUDA)
#include <lnfree/device/cuda/cuda.hpp>
#endif
#if defined(LNFREE_TRAINER_MPI)
#include <lnfree/parallel/mpi.hpp>
#endif
#if defined(LNFREE_TRAINER_NCCL)
#include <lnfree/parallel/nccl.hpp>
#endif
#include <lnfree/device/profiled.hpp>
#include <lnfree/model.hpp>
#include <lnfree/train/trainer.hpp>

#include "../configurations.hpp"
#ifndef LNFREE_TRAINER_CUDA
#include "observers.hpp"
#endif

namespace program {

#if defined(LNFREE_TRAINER_BF16)
using BareDevice = lnfree::CpuBF16;
#elif defined(LNFREE_TRAINER_FP8)
using BareDevice = lnfree::CudaFP8;
#elif defined(LNFREE_TRAINER_INT8)
using BareDevice = lnfree::CudaInt8;
#elif defined(LNFREE_TRAINER_CUDA)
using BareDevice = lnfree::Cuda;
#else
using BareDevice = lnfree::Cpu;
#endif
using Device = lnfree::Profiled<BareDevice>;  // for --profile

#if defined(LNFREE_TRAINER_NCCL)
using Ranks = lnfree::Nccl;
#elif defined(LNFREE_TRAINER_MPI)
using Ranks = lnfree::Mpi;
#else
using Ranks = lnfree::SingleProcess;
#endif

/// The processes that train, including this one.
inline Ranks join_ranks() {
#if defined(LNFREE_TRAINER_NCCL) && defined(LNFREE_TRAINER_MPI)
  return Ranks::through(lnfree::Mpi{});
#elif defined(LNFREE_TRAINER_NCCL)
  return Ranks::from_environment();
#else
  return Ranks{};
#endif
}

// SignalObserver and WeightObserver use Eigen, which CUDA sources cannot include.
#ifdef LNFREE_TRAINER_CUDA
inline constexpr bool is_on_gpu = true;
using Observer = lnfree::Observers<lnfree::EntropyObserver, lnfree::OutlierObserver>;
#else
inline constexpr bool is_on_gpu = false;
using Observer = lnfree::Observers<lnfree::EntropyObserver, lnfree::OutlierObserver, lnfree::SignalObserver,
                                   lnfree::WeightObserver>;
#endif

inline constexpr configurations::Recipe recipe = configurations::recipes::LNFREE_TRAINER_RECIPE;
inline constexpr configurations::Training schedule = configurations::shapes::LNFREE_TRAINER_SHAPE.training;
inline constexpr lnfree::DecoderConfig shape = configurations::shapes::LNFREE_TRAINER_SHAPE.by(recipe);
using Parts = configurations::LNFREE_TRAINER_CONFIGURATION<shape>;
using Model = lnfree::Decoder<shape, Parts::NormPolicy, Parts::ActivationPolicy, Device, Observer,
                              Parts::LayoutPolicy, Parts::ObjectivePolicy>;
using Trainer = lnfree::Trainer<Model, lnfree::AdamW, lnfree::ChosenSchedule, Ranks>;

}  // namespace program
