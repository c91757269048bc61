#pragma once

/// The EigenCpu device with all its primitives.
#include <lnfree/device/eigen/activation.hpp>
#include <lnfree/device/eigen/attention.hpp>
#include <lnfree/device/eigen/bias.hpp>
#include <lnfree/device/eigen/cross_entropy.hpp>
#include <lnfree/device/eigen/device.hpp>
#include <lnfree/device/eigen/dropout.hpp>
#include <lnfree/device/eigen/elementwise.hpp>
#include <lnfree/device/eigen/embedding.hpp>
#include <lnfree/device/eigen/entropy.hpp>
#include <lnfree/device/eigen/gemm.hpp>
#include <lnfree/device/eigen/norm.hpp>
#include <lnfree/device/eigen/rotary.hpp>
#include <lnfree/device/eigen/statistics.hpp>
#include <lnfree/device/primitives.hpp>

namespace lnfree {

static_assert(Device<EigenCpu<float>> && Device<EigenCpu<double>>);

}  // namespace lnfree
