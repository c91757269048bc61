#pragma once

/// The EigenCpu device with all its primitives.
#include <lnfree/backend/eigen/activation.hpp>
#include <lnfree/backend/eigen/attention.hpp>
#include <lnfree/backend/eigen/bias.hpp>
#include <lnfree/backend/eigen/cross_entropy.hpp>
#include <lnfree/backend/eigen/device.hpp>
#include <lnfree/backend/eigen/dropout.hpp>
#include <lnfree/backend/eigen/elementwise.hpp>
#include <lnfree/backend/eigen/embedding.hpp>
#include <lnfree/backend/eigen/entropy.hpp>
#include <lnfree/backend/eigen/gemm.hpp>
#include <lnfree/backend/eigen/norm.hpp>
#include <lnfree/backend/eigen/rotary.hpp>
#include <lnfree/backend/eigen/statistics.hpp>
#include <lnfree/backend/primitives.hpp>

namespace lnfree {

static_assert(Backend<EigenCpu<float>> && Backend<EigenCpu<double>>);

}  // namespace lnfree
