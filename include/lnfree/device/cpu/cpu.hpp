#pragma once

/// The Cpu device with all its primitives.
#include <lnfree/device/cpu/activation.hpp>
#include <lnfree/device/cpu/attention.hpp>
#include <lnfree/device/cpu/bias.hpp>
#include <lnfree/device/cpu/cross_entropy.hpp>
#include <lnfree/device/cpu/device.hpp>
#include <lnfree/device/cpu/dropout.hpp>
#include <lnfree/device/cpu/elementwise.hpp>
#include <lnfree/device/cpu/embedding.hpp>
#include <lnfree/device/cpu/entropy.hpp>
#include <lnfree/device/cpu/gemm.hpp>
#include <lnfree/device/cpu/norm.hpp>
#include <lnfree/device/cpu/rotary.hpp>
#include <lnfree/device/cpu/statistics.hpp>
#include <lnfree/device/primitives.hpp>

namespace lnfree {

static_assert(Device<Cpu>);

}  // namespace lnfree
