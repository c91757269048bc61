#pragma once

#include <concepts>
#include <string>

#include <lnfree/device/cores.hpp>

namespace lnfree::eigen {

/// The processor's cores, with every primitive written in Eigen's expressions: in float or double, on any
/// processor that Eigen knows. It is written to be read, and the other devices are held against it; Cpu is
/// faster.
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

/// What gradient_check and the tests of all devices stand on.
template <class S>
using Reference = EigenCpu<S>;
}  // namespace lnfree
