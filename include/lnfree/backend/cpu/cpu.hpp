#pragma once

/// The Cpu device with all its primitives.
#include <lnfree/backend/cpu/activation.hpp>
#include <lnfree/backend/cpu/attention.hpp>
#include <lnfree/backend/cpu/bias.hpp>
#include <lnfree/backend/cpu/cross_entropy.hpp>
#include <lnfree/backend/cpu/device.hpp>
#include <lnfree/backend/cpu/dropout.hpp>
#include <lnfree/backend/cpu/elementwise.hpp>
#include <lnfree/backend/cpu/embedding.hpp>
#include <lnfree/backend/cpu/entropy.hpp>
#include <lnfree/backend/cpu/gemm.hpp>
#include <lnfree/backend/cpu/norm.hpp>
#include <lnfree/backend/cpu/rotary.hpp>
#include <lnfree/backend/cpu/statistics.hpp>
#include <lnfree/backend/primitives.hpp>

namespace lnfree {

static_assert(Backend<Cpu>);

}  // namespace lnfree
