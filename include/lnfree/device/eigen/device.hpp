#pragma once

#include <concepts>
#include <string>

#include <lnfree/device/cores.hpp>

namespace lnfree::eigen {

/// The processor's cores, with every primitive written in Eigen expressions, in float or double, on any
/// processor that Eigen supports. It is written to be readable and is the reference for the other devices;
/// Cpu is faster.
template <std::floating_point S>
struct EigenCpu : Cores {
  using Scalar = S;
  using Accumulator = S;
};

template <class S>
std::string device_name(EigenCpu<S>& device) {
  return device_name(static_cast<Cores&>(device)) + ", Eigen";
}

}  // namespace lnfree::eigen

namespace lnfree {
using eigen::EigenCpu;

/// The device that gradient_check and the tests of all devices compare with.
template <class S>
using Reference = EigenCpu<S>;
}  // namespace lnfree
