#pragma once

/// The Cuda device with all its primitives, for sources that nvcc compiles.
#include <lnfree/device/cuda/activation.hpp>
#include <lnfree/device/cuda/attention.hpp>
#include <lnfree/device/cuda/bias.hpp>
#include <lnfree/device/cuda/cross_entropy.hpp>
#include <lnfree/device/cuda/device.hpp>
#include <lnfree/device/cuda/dropout.hpp>
#include <lnfree/device/cuda/elementwise.hpp>
#include <lnfree/device/cuda/embedding.hpp>
#include <lnfree/device/cuda/entropy.hpp>
#include <lnfree/device/cuda/gemm.hpp>
#include <lnfree/device/cuda/norm.hpp>
#include <lnfree/device/cuda/recording.hpp>
#include <lnfree/device/cuda/rotary.hpp>
#include <lnfree/device/cuda/statistics.hpp>
#include <lnfree/device/primitives.hpp>

namespace lnfree {

static_assert(Device<Cuda> && Device<CudaFp32>);

}  // namespace lnfree
