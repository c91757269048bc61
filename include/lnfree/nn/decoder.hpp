#pragma once

#include <cstdint>
#include <type_traits>
#include <utility>

#include <lnfree/core/config.hpp>
#include <lnfree/fwd.hpp>
#include <lnfree/layout/parallel.hpp>
#include <lnfree/layout/pre_norm.hpp>
#include <lnfree/nn/dynamic_decoder.hpp>
#include <lnfree/norm/identity.hpp>
#include <lnfree/norm/layer_norm.hpp>

namespace lnfree {

/// A decoder-only transformer: embedding, blocks, final norm, logits. The architecture and its policies are
/// template arguments; everything else is chosen at run time.
///
///   Config             sizes and layout, a DecoderConfig
///   NormPolicy         LayerNorm, Identity, RMSNorm, ..., or your own (docs/adding-a-norm.md)
///   ActivationPolicy   GELU, ReLU, ..., or your own (docs/adding-an-activation.md), or Layerwise
///   DeviceTag          a device, whose primitives compute (docs/architecture.md)
///   ObserverPolicy     NoObserver, EntropyObserver, OutlierObserver, Observers, or your own
///                      (docs/adding-an-observer.md)
///   LayoutPolicy       PreNorm, Parallel, PostNorm, Sandwich, or your own (docs/change.md); AsConfigured:
///                      PreNorm or Parallel, selected by Config.parallel_residual
///   ObjectivePolicy    CrossEntropy, EntropyGuided, or your own (docs/change.md)
///
/// Its members are those of DynamicDecoder. The constructor allocates all memory; no pass allocates.
template <DecoderConfig Config, class NormPolicy, class ActivationPolicy, class DeviceTag,
          class ObserverPolicy, class LayoutPolicy, template <class> class ObjectivePolicy>
class Decoder : public DynamicDecoder<DeviceTag, ObserverPolicy, ObjectivePolicy> {
  using Base = DynamicDecoder<DeviceTag, ObserverPolicy, ObjectivePolicy>;
  static_assert(sizes_are_positive(Config),
                "lnfree: layers, heads, width, ffn_width, context and vocab_size must all be positive");
  static_assert(width_is_a_multiple_of_heads(Config),
                "lnfree: width must be a multiple of heads, since each head gets width / heads channels");
  static_assert(positions_cover_the_context(Config),
                "lnfree: positions must be at least context, or 0 to mean context");
  static_assert(rotary_dims_fit_the_head(Config),
                "lnfree: rotary_dims must be even and at most width / heads, or 0 for learned positions");
  static_assert(Named<NormPolicy>,
                "lnfree: the norm lacks `static constexpr std::string_view name` (docs/adding-a-norm.md)");
  static_assert(!Named<NormPolicy> || std::is_same_v<NormPolicy, Identity> || !HasRowStatistics<NormPolicy> ||
                    RowNorm<NormPolicy>,
                "lnfree: a norm with statistics() must offer `template <class T> static T value(T x, "
                "RowStatistics<T> row)`, with `const T (&p)[K]` after it for its K parameters "
                "(docs/adding-a-norm.md)");
  static_assert(
      !Named<NormPolicy> || std::is_same_v<NormPolicy, Identity> || HasRowStatistics<NormPolicy> ||
          PointwiseNorm<NormPolicy>,
      "lnfree: the norm must be Identity, or offer `template <class T> static T value(T x)`, with "
      "`const T (&p)[K]` after x for its K parameters, or with statistics() for what it uses of a row "
      "(docs/adding-a-norm.md)");
  static_assert(Named<ActivationPolicy>,
                "lnfree: the activation lacks `static constexpr std::string_view name` "
                "(docs/adding-an-activation.md)");
  static_assert(
      requires { ActivationPolicy::saved; } || requires { typename ActivationPolicy::First; },
      "lnfree: the activation lacks `static constexpr Saved saved` (docs/adding-an-activation.md)");
  static_assert(
      ActivationOfLayers<ActivationPolicy> || !Named<ActivationPolicy> ||
          !requires { ActivationPolicy::saved; },
      "lnfree: the activation lacks `template <class T> static T value(T x)` or `derivative(T saved)`; "
      "with a learnable number p both take it, and there are parameter_derivative(saved, p), scope, "
      "parameter_name and initial (docs/adding-an-activation.md)");
  static_assert(std::is_same_v<LayoutPolicy, AsConfigured> || lnfree::Layout<LayoutPolicy, DeviceTag>,
                "lnfree: the layout must offer name and `static auto wire(auto& layout, auto x)` "
                "(docs/change.md)");

 public:
  /// The norm of the blocks.
  using Norm = NormPolicy;
  /// The norm before the logits.
  using FinalNormPolicy = std::conditional_t<
      Config.final_norm == FinalNorm::layer_norm, LayerNorm,
      std::conditional_t<Config.final_norm == FinalNorm::same_as_norm, NormPolicy, Identity>>;
  /// The activation of the feed-forward networks.
  using Activation = ActivationPolicy;
  /// How a block is connected.
  using Layout = std::conditional_t<!std::is_same_v<LayoutPolicy, AsConfigured>, LayoutPolicy,
                                    std::conditional_t<Config.parallel_residual, Parallel, PreNorm>>;
  /// The architecture.
  static constexpr DecoderConfig config = Config;

  /// Like DynamicDecoder's constructor.
  explicit Decoder(int max_batch, Purpose purpose = Purpose::training, DeviceTag device = {})
      : Base(Config, parts(), max_batch, purpose, std::move(device)) {}

  /// The device memory that a model built with the same arguments takes; allocates nothing.
  static MemoryPlan plan_memory(int max_batch, Purpose purpose = Purpose::training, DeviceTag device = {}) {
    return Base::plan_memory(Config, parts(), max_batch, purpose, std::move(device));
  }

 private:
  static DecoderParts<DeviceTag> parts() {
    return parts_of<Norm, FinalNormPolicy, Activation, Layout, DeviceTag>();
  }
};

namespace detail {

template <class Model, class Device>
struct OnDeviceOf;
template <DecoderConfig Config, class Norm, class Activation, class Before, class Observer, class Layout,
          template <class> class Objective, class Device>
struct OnDeviceOf<Decoder<Config, Norm, Activation, Before, Observer, Layout, Objective>, Device> {
  using Type = Decoder<Config, Norm, Activation, Device, Observer, Layout, Objective>;
};

}  // namespace detail

/// The same architecture and policies as `Model`, on another device.
template <class Model, class Device>
using OnDevice = typename detail::OnDeviceOf<Model, Device>::Type;

}  // namespace lnfree
