#pragma once

#include <lnfree/core/macros.hpp>

/// Reference<double>, with which the other devices are compared. nvcc does not compile Eigen, so it gets only
/// declarations; tests/gpu/oracle.cpp is compiled by another compiler.
#if LNFREE_GPU_COMPILER
#include "gpu/oracle.hpp"
#else
#include <lnfree/device/eigen/eigen.hpp>
#endif
