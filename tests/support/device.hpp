#pragma once

#ifdef LNFREE_TEST_CUDA
#include <lnfree/device/cuda/cuda.hpp>
#else
#include <lnfree/device/cpu/cpu.hpp>
#endif

#include "support/reference.hpp"

namespace lnfree::test {

/// Where the tests of whole models compute.
#ifdef LNFREE_TEST_CUDA
using TestDevice = CudaFp32;
#else
using TestDevice = Cpu;
#endif

}  // namespace lnfree::test
