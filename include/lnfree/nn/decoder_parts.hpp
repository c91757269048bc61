#pragma once

#include <functional>

#include <lnfree/nn/activation_layer.hpp>
#include <lnfree/nn/layout_builder.hpp>
#include <lnfree/nn/normalization.hpp>

namespace lnfree {

/// What a decoder is made of besides its matrices, as values: policies that were chosen, by type in a
/// program, or by name in a file.
template <class Device>
struct DecoderParts {
  NormFactory<Device> norm;        ///< Of the blocks; empty for Identity.
  NormFactory<Device> final_norm;  ///< In front of the logits; empty for none.
  ActivationFactory<Device> activation;
  std::function<WiredValue(LayoutBuilder<Device>&, WiredValue)> wire;  ///< The layout of the blocks.
};

/// The parts of these policies.
template <class Norm, class FinalNorm, class Activation, class Layout, class Device>
DecoderParts<Device> parts_of() {
  return {norm_factory<Norm, Device>(), norm_factory<FinalNorm, Device>(),
          activation_factory<Activation, Device>(),
          [](LayoutBuilder<Device>& layout, WiredValue x) -> WiredValue { return Layout::wire(layout, x); }};
}

}  // namespace lnfree
