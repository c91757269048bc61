#pragma once

/// Everything needed to define a model: Decoder, its configurations, policies and optimizers, and the device:
/// Cpu, or Cuda in a CUDA source. EigenCpu is in lnfree/device/eigen/eigen.hpp, CpuBF16 in
/// lnfree/device/cpu/bf16.hpp, CudaFP8 in lnfree/device/cuda/fp8.hpp, CudaInt8 in
/// lnfree/device/cuda/int8.hpp.
#include <lnfree/fwd.hpp>

#include <lnfree/activation/gelu.hpp>
#include <lnfree/activation/layerwise.hpp>
#include <lnfree/activation/leaky_learnable.hpp>
#include <lnfree/activation/leaky_relu.hpp>
#include <lnfree/activation/relu.hpp>
#include <lnfree/activation/silu.hpp>
#include <lnfree/activation/squared_relu.hpp>
#include <lnfree/core/config.hpp>
#include <lnfree/core/macros.hpp>
#include <lnfree/layout/parallel.hpp>
#include <lnfree/layout/post_norm.hpp>
#include <lnfree/layout/pre_norm.hpp>
#include <lnfree/layout/sandwich.hpp>
#include <lnfree/nn/decoder.hpp>
#include <lnfree/norm/dynamic_erf.hpp>
#include <lnfree/norm/dynamic_tanh.hpp>
#include <lnfree/norm/identity.hpp>
#include <lnfree/norm/layer_norm.hpp>
#include <lnfree/norm/rms_norm.hpp>
#include <lnfree/norm/staged.hpp>
#include <lnfree/norm/tapered.hpp>
#include <lnfree/objective/cross_entropy.hpp>
#include <lnfree/objective/distillation.hpp>
#include <lnfree/objective/entropy_guided.hpp>
#include <lnfree/objective/sparse_hidden.hpp>
#include <lnfree/objective/steady_scale.hpp>
#include <lnfree/observer/entropy_observer.hpp>
#include <lnfree/observer/no_observer.hpp>
#include <lnfree/observer/observers.hpp>
#include <lnfree/observer/outlier_observer.hpp>
#include <lnfree/optim/adamw.hpp>
#include <lnfree/optim/muon.hpp>
#include <lnfree/optim/schedule.hpp>

// nvcc does not compile the Cpu's vector code, so a CUDA source gets the GPU instead. EigenCpu has its own
// header, so that only programs that use it compile Eigen.
#if LNFREE_GPU_COMPILER
#include <lnfree/device/cuda/cuda.hpp>
#else
#include <lnfree/device/cpu/cpu.hpp>
#endif
