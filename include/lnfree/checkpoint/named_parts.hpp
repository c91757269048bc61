#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <lnfree/activation/gelu.hpp>
#include <lnfree/activation/leaky_learnable.hpp>
#include <lnfree/activation/leaky_relu.hpp>
#include <lnfree/activation/relu.hpp>
#include <lnfree/activation/silu.hpp>
#include <lnfree/activation/squared_relu.hpp>
#include <lnfree/core/error.hpp>
#include <lnfree/core/excerpt.hpp>
#include <lnfree/core/parse_number.hpp>
#include <lnfree/layout/parallel.hpp>
#include <lnfree/layout/post_norm.hpp>
#include <lnfree/layout/pre_norm.hpp>
#include <lnfree/layout/sandwich.hpp>
#include <lnfree/nn/decoder_parts.hpp>
#include <lnfree/norm/dynamic_erf.hpp>
#include <lnfree/norm/dynamic_tanh.hpp>
#include <lnfree/norm/identity.hpp>
#include <lnfree/norm/layer_norm.hpp>
#include <lnfree/norm/rms_norm.hpp>
#include <lnfree/norm/staged.hpp>
#include <lnfree/norm/tapered.hpp>

/// Policies by their names in files.
namespace lnfree {

/// A list of policies.
template <class... Policies>
struct PolicyList {};

/// The policies that open_model() finds by name: those of the library. A program with policies of its own
/// gives it a struct with longer lists.
struct KnownPolicies {
  /// Of blocks and before the logits.
  using Norms = PolicyList<LayerNorm, Identity, RMSNorm, DynamicTanh, DynamicErf, Tapered, Staged>;
  /// Of feed-forward networks.
  using Activations = PolicyList<GELU, GELUTanh, ReLU, SquaredReLU, SiLU, LeakyReLU<>,
                                 LeakyLearnable<Scope::per_layer>, LeakyLearnable<Scope::global>>;
  /// Of blocks.
  using Layouts = PolicyList<PreNorm, Parallel, PostNorm, Sandwich>;
};

namespace detail {

/// Calls f.operator()<P>() for the policy P of that name. Throws Error, with the names of the list, if it has
/// no such policy.
template <class... P, class F>
void with_named_policy(PolicyList<P...>, const char* kind, std::string_view name, const F& f) {
  const bool found = ([&] {
    if (name != P::name) return false;
    f.template operator()<P>();
    return true;
  }() || ...);
  if (found) return;
  std::string known;
  const auto mention = [&](std::string_view one) {
    if ((", " + known + ",").find(", " + std::string(one) + ",") != std::string::npos) return;
    known += (known.empty() ? "" : ", ") + std::string(one);
  };
  (mention(P::name), ...);
  throw Error(std::string("this program knows no ") + kind + " " + excerpt(name) + "; it knows " + known);
}

template <class Device, class Norms>
NormFactory<Device> norm_named(std::string_view name) {
  NormFactory<Device> factory;
  with_named_policy(Norms{}, "norm", name, [&]<class N>() { factory = norm_factory<N, Device>(); });
  return factory;
}

/// "relu*4" as ("relu", 4); nothing if the text has no count.
inline std::optional<std::pair<std::string_view, std::int64_t>> name_and_count(std::string_view text) {
  const auto times = text.find('*');
  if (times == text.npos) return std::nullopt;
  const auto count = parse_number<int>(text.substr(times + 1));
  if (!count || *count < 0) return std::nullopt;
  return std::pair(text.substr(0, times), std::int64_t{*count});
}

/// The activations of a name, which may be that of a Layerwise: "relu*4+gelu" or "relu*1+gelu*1".
template <class Device, class Activations>
ActivationFactory<Device> activation_named(std::string_view name) {
  if (const auto plus = name.find('+'); plus != name.npos) {
    if (const auto first = name_and_count(name.substr(0, plus))) {
      const std::string_view others = name.substr(plus + 1);
      const auto counted = name_and_count(others);
      const std::int64_t period = counted && counted->second > 0 ? first->second + counted->second : 0;
      return [count = first->second, period, one = activation_named<Device, Activations>(first->first),
              other = activation_named<Device, Activations>(period > 0 ? counted->first : others)](
                 ParameterSet<Device>& parameters, const std::string& owner, int layer) {
        return ((period > 0 ? layer % period : layer) < count ? one : other)(parameters, owner, layer);
      };
    }
  }
  ActivationFactory<Device> factory;
  with_named_policy(Activations{}, "activation", name,
                    [&]<class A>() { factory = activation_factory<A, Device>(); });
  return factory;
}

}  // namespace detail

/// The parts of the policies with these names, which are those of an Architecture. Throws Error for an
/// unknown name.
template <class Device, class Policies = KnownPolicies>
DecoderParts<Device> parts_named(std::string_view norm, std::string_view final_norm,
                                 std::string_view activation, std::string_view layout) {
  DecoderParts<Device> parts;
  parts.norm = detail::norm_named<Device, typename Policies::Norms>(norm);
  parts.final_norm = detail::norm_named<Device, typename Policies::Norms>(final_norm);
  parts.activation = detail::activation_named<Device, typename Policies::Activations>(activation);
  detail::with_named_policy(typename Policies::Layouts{}, "layout", layout,
                            [&]<class L>() { parts.wire = wire_of<L, Device>(); });
  return parts;
}

}  // namespace lnfree
