#pragma once

/// The Cuda device with all its primitives, for sources that nvcc compiles.
#include <lnfree/backend/cuda/activation.hpp>
#include <lnfree/backend/cuda/attention.hpp>
#include <lnfree/backend/cuda/bias.hpp>
#include <lnfree/backend/cuda/cross_entropy.hpp>
#include <lnfree/backend/cuda/device.hpp>
#include <lnfree/backend/cuda/dropout.hpp>
#include <lnfree/backend/cuda/elementwise.hpp>
#include <lnfree/backend/cuda/embedding.hpp>
#include <lnfree/backend/cuda/entropy.hpp>
#include <lnfree/backend/cuda/gemm.hpp>
#include <lnfree/backend/cuda/norm.hpp>
#include <lnfree/backend/cuda/recording.hpp>
#include <lnfree/backend/cuda/rotary.hpp>
#include <lnfree/backend/cuda/statistics.hpp>
#include <lnfree/backend/primitives.hpp>

namespace lnfree {

static_assert(Backend<Cuda> && Backend<CudaFp32>);

}  // namespace lnfree
