#pragma once

#include <vector>

#include <lnfree/checkpoint/architecture.hpp>
#include <lnfree/checkpoint/named_parts.hpp>
#include <lnfree/device/cpu/cpu.hpp>
#include <lnfree/nn/dynamic_decoder.hpp>

namespace lnfree {

/// The tensors of a model of this architecture, as save_weights() writes them. Those of its objective are not
/// among them. Throws Error for a norm, layout or activation that `Policies` does not name.
template <class Policies = KnownPolicies>
std::vector<TensorShape> tensor_shapes(const Architecture& architecture) {
  return DynamicDecoder<Cpu>::tensor_shapes(
      architecture.sizes, parts_named<Cpu, Policies>(architecture.norm, architecture.final_norm,
                                                     architecture.activation, architecture.layout));
}

}  // namespace lnfree
