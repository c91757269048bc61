#pragma once

/// The Reference device with all its primitives.
#include <lnfree/backend/primitives.hpp>
#include <lnfree/backend/reference/activation.hpp>
#include <lnfree/backend/reference/attention.hpp>
#include <lnfree/backend/reference/bias.hpp>
#include <lnfree/backend/reference/cross_entropy.hpp>
#include <lnfree/backend/reference/device.hpp>
#include <lnfree/backend/reference/dropout.hpp>
#include <lnfree/backend/reference/elementwise.hpp>
#include <lnfree/backend/reference/embedding.hpp>
#include <lnfree/backend/reference/entropy.hpp>
#include <lnfree/backend/reference/gemm.hpp>
#include <lnfree/backend/reference/norm.hpp>
#include <lnfree/backend/reference/rotary.hpp>
#include <lnfree/backend/reference/statistics.hpp>

namespace lnfree {

static_assert(Backend<Reference<float>> && Backend<Reference<double>>);

}  // namespace lnfree
