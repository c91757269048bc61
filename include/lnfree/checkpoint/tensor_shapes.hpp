#pragma once

#include <algorithm>
#include <charconv>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <lnfree/activation/gelu.hpp>
#include <lnfree/activation/leaky_learnable.hpp>
#include <lnfree/activation/relu.hpp>
#include <lnfree/activation/silu.hpp>
#include <lnfree/activation/squared_relu.hpp>
#include <lnfree/checkpoint/architecture.hpp>
#include <lnfree/core/error.hpp>
#include <lnfree/core/excerpt.hpp>
#include <lnfree/core/policies.hpp>
#include <lnfree/core/tensor.hpp>
#include <lnfree/layout/parallel.hpp>
#include <lnfree/layout/post_norm.hpp>
#include <lnfree/layout/pre_norm.hpp>
#include <lnfree/layout/sandwich.hpp>
#include <lnfree/norm/call.hpp>
#include <lnfree/norm/dynamic_erf.hpp>
#include <lnfree/norm/dynamic_tanh.hpp>
#include <lnfree/norm/identity.hpp>
#include <lnfree/norm/layer_norm.hpp>
#include <lnfree/norm/rms_norm.hpp>

/// The tensors of a model whose architecture is known at run time only.
namespace lnfree {

/// A tensor's name in checkpoints, and its shape.
struct TensorShape {
  std::string name;          ///< The name in checkpoints.
  std::vector<Index> shape;  ///< Its sizes.
};

namespace detail {

/// What the library's norms learn, by their names; nothing for another name.
inline std::optional<std::vector<NormParameter>> norm_parameters_of(std::string_view name) {
  std::optional<std::vector<NormParameter>> found;
  const auto look_at = [&]<class N>() {
    if (N::name != name) return;
    found.emplace();
    for_norm_parameters<N>([&](auto k) { found->push_back(norm_parameter<N, k()>); });
  };
  look_at.template operator()<Identity>();
  look_at.template operator()<LayerNorm>();
  look_at.template operator()<RMSNorm>();
  look_at.template operator()<DynamicTanh>();
  look_at.template operator()<DynamicErf>();
  return found;
}

/// Stands in for LayoutBuilder: notes the names of a layout's norms.
struct NormNames {
  std::vector<std::string> names;

  int norm(std::string_view name, NormSite, int) {
    names.emplace_back(name);
    return 0;
  }
  int attention(int) { return 0; }
  int feed_forward(int) { return 0; }
  int add(int, int) { return 0; }
};

/// The norms of the library's layouts, by their names; nothing for another name.
inline std::optional<std::vector<std::string>> norms_of_layout(std::string_view name) {
  std::optional<std::vector<std::string>> found;
  const auto look_at = [&]<class L>() {
    if (L::name != name) return;
    NormNames layout;
    L::wire(layout, 0);
    found = std::move(layout.names);
  };
  look_at.template operator()<PreNorm>();
  look_at.template operator()<Parallel>();
  look_at.template operator()<PostNorm>();
  look_at.template operator()<Sandwich>();
  return found;
}

/// The number that a text is, nothing for a text that is none.
inline std::optional<int> number_of(std::string_view text) {
  int number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return number;
}

/// Whether an activation of one layer is the library's.
inline bool is_known_activation(std::string_view name) {
  for (const std::string_view known :
       {GELU::name, GELUTanh::name, ReLU::name, SiLU::name, SquaredReLU::name,
        LeakyLearnable<Scope::per_layer>::name, LeakyLearnable<Scope::global>::name}) {
    if (name == known) return true;
  }
  // LeakyReLU<std::ratio<1, 100>>
  constexpr std::string_view leaky = "leaky_relu(";
  if (!name.starts_with(leaky) || !name.ends_with(")")) return false;
  name = name.substr(leaky.size(), name.size() - leaky.size() - 1);
  const std::size_t slash = name.find('/');
  return slash != std::string_view::npos && number_of(name.substr(0, slash)) &&
         number_of(name.substr(slash + 1)).value_or(0) > 0;
}

}  // namespace detail

/// The activation of each of `layers` layers: the name itself, or those of a Layerwise. Throws Error for a
/// name that is none of the library's.
inline std::vector<std::string> activations_of_layers(const std::string& name, int layers) {
  const Error unknown("the activation " + excerpt(name) + " is none that this program knows");
  const std::size_t star = name.find('*'), plus = name.find('+');
  std::string first = name, rest = name;
  int count = layers;
  if (star != std::string::npos && plus != std::string::npos && star < plus) {
    const auto number = detail::number_of(std::string_view(name).substr(star + 1, plus - star - 1));
    if (!number || *number < 0) throw unknown;
    count = std::min(*number, layers);
    first = name.substr(0, star);
    rest = name.substr(plus + 1);
  }
  for (const std::string& each : {first, rest}) {
    if (!detail::is_known_activation(each)) throw unknown;
  }
  std::vector<std::string> result(static_cast<std::size_t>(layers), rest);
  std::fill_n(result.begin(), count, first);
  return result;
}

/// The tensors of a model of this architecture, as save_weights() writes them. Those of its objective are not
/// among them. Throws Error for a norm, layout or activation that is none of the library's.
inline std::vector<TensorShape> tensor_shapes(const Architecture& architecture) {
  const DecoderConfig& sizes = architecture.sizes;
  const Index width = sizes.width, hidden = sizes.ffn_width;
  std::vector<TensorShape> all;
  const auto add = [&](const std::string& name, std::vector<Index> shape) {
    all.push_back({name, std::move(shape)});
  };
  const auto add_norm = [&](const std::string& name, const std::string& norm) {
    const auto parameters = detail::norm_parameters_of(norm);
    if (!parameters) throw Error("the norm " + excerpt(norm) + " is none that this program knows");
    for (const NormParameter& parameter : *parameters)
      add(name + "." + std::string(parameter.name), {parameter.is_per_channel ? width : 1});
  };
  const auto add_linear = [&](const std::string& name, Index in, Index out, bool has_bias) {
    add(name + ".weight", {in, out});
    if (has_bias) add(name + ".bias", {out});
  };
  const auto norms = detail::norms_of_layout(architecture.layout);
  if (!norms) throw Error("the layout " + excerpt(architecture.layout) + " is none that this program knows");
  const auto activations = activations_of_layers(architecture.activation, sizes.layers);

  add("wte.weight", {sizes.vocab_size, width});
  if (sizes.rotary_dims == 0) add("wpe.weight", {sizes.position_rows(), width});
  const bool has_biases = sizes.biases == Biases::all;
  bool has_global_slope = false;
  for (int l = 0; l < sizes.layers; ++l) {
    const std::string block = "h." + std::to_string(l) + ".";
    for (const std::string& norm : *norms) add_norm(block + norm, architecture.norm);
    add_linear(block + "attn.c_attn", width, 3 * width, sizes.biases != Biases::none);
    add_linear(block + "attn.c_proj", width, width, has_biases);
    add_linear(block + "mlp.c_fc", width, hidden, has_biases);
    add_linear(block + "mlp.c_proj", hidden, width, has_biases);
    const std::string& activation = activations[static_cast<std::size_t>(l)];
    if (activation == LeakyLearnable<Scope::per_layer>::name) add(block + "mlp.act.slope", {1});
    has_global_slope |= activation == LeakyLearnable<Scope::global>::name;
  }
  if (has_global_slope) add("act.slope", {1});
  add_norm("ln_f", architecture.final_norm);
  if (!sizes.tied_output) add("lm_head.weight", {sizes.vocab_size, width});
  return all;
}

}  // namespace lnfree
