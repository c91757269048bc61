#pragma once

#include <lnfree/core/macros.hpp>

/// Reference<double>, against which the other devices are held. Eigen is not for nvcc, which gets its
/// primitives declared; tests/gpu/oracle.cpp has them from another compiler.
#if LNFREE_GPU_COMPILER
#include "gpu/oracle.hpp"
#else
#include <lnfree/device/eigen/eigen.hpp>
#endif
