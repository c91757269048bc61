#pragma once

#include <functional>

#include <lnfree/nn/activation_layer.hpp>
#include <lnfree/nn/layout_builder.hpp>
#include <lnfree/nn/normalization.hpp>

namespace lnfree {

/// A layout: the steps from the residual stream before a block to the stream after it.
template <class Device>
using WireBlock = std::function<WiredValue(LayoutBuilder<Device>&, WiredValue)>;

/// The layout of policy L.
template <class L, class Device>
WireBlock<Device> wire_of() {
  return [](LayoutBuilder<Device>& layout, WiredValue x) -> WiredValue { return L::wire(layout, x); };
}

/// The policies of a decoder as run-time values, chosen by type in a program or by name in a file.
template <class Device>
struct DecoderParts {
  NormFactory<Device> norm;        ///< Of the blocks; empty for Identity.
  NormFactory<Device> final_norm;  ///< Before the logits; empty for none.
  /// Of the feed-forward networks.
  ActivationFactory<Device> activation;
  /// The layout of the blocks.
  WireBlock<Device> wire;
};

/// The parts of these policies.
template <class Norm, class FinalNorm, class Activation, class Layout, class Device>
DecoderParts<Device> parts_of() {
  return {norm_factory<Norm, Device>(), norm_factory<FinalNorm, Device>(),
          activation_factory<Activation, Device>(), wire_of<Layout, Device>()};
}

}  // namespace lnfree
