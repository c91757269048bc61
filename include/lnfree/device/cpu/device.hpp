#pragma once

#include <concepts>

#include <lnfree/device/cores.hpp>

namespace lnfree::cpu {

/// The processor's cores, in float: OpenMP threads and vectorized loops, as wide as the compiler's target
/// allows (-march=native).
struct Cpu : Cores {
  using Scalar = float;
  using Accumulator = float;
};

struct CpuBF16;  // bf16.hpp

/// A device of the processor's cores. Whatever type it stores, it computes in float.
template <class D>
concept CpuDevice = std::same_as<D, Cpu> || std::same_as<D, CpuBF16>;

}  // namespace lnfree::cpu

namespace lnfree {
using cpu::Cpu;
}  // namespace lnfree
