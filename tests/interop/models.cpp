/// interop_models list
/// interop_models write CASE FOLDER
/// interop_models logits FOLDER TOKEN...
///
/// lnfree's side of the comparisons in test_transformers.py and test_llm_c.py. `list` prints the names of the
/// cases; `write` makes a checkpoint of one with random numbers in every tensor; `logits` prints those of
/// each prefix of the tokens, by the model in FOLDER.
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <iostream>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <lnfree/checkpoint/open_model.hpp>
#include <lnfree/device/eigen/eigen.hpp>
#include <lnfree/objective/entropy_guided.hpp>

using namespace lnfree;

namespace {

using Target = Reference<double>;

// All sizes differ, none is a multiple of the vector width, and the GPT-NeoX does not have three heads:
// otherwise a mistake in the order of Q, K and V could be hidden.
constexpr DecoderConfig gpt2{.layers = 2,
                             .heads = 3,
                             .width = 12,
                             .ffn_width = 48,
                             .context = 9,
                             .vocab_size = 37,
                             .biases = Biases::all};
constexpr DecoderConfig neox{.layers = 2,
                             .heads = 2,
                             .width = 20,
                             .ffn_width = 41,
                             .context = 11,
                             .vocab_size = 29,
                             .biases = Biases::all,
                             .tied_output = false,
                             .rotary_dims = 4};

/// `config` with other biases.
constexpr DecoderConfig with(DecoderConfig config, Biases biases) {
  config.biases = biases;
  return config;
}

constexpr DecoderConfig with_positions(DecoderConfig config, int positions) {
  config.positions = positions;
  return config;
}

/// With a tied output matrix if that of `config` is untied, and vice versa.
constexpr DecoderConfig other_output(DecoderConfig config) {
  config.tied_output = !config.tied_output;
  return config;
}

struct Case {
  std::string_view name;
  DecoderConfig sizes;
  const char *norm, *final_norm, *activation, *layout;
  bool is_guided = false;  ///< Whether an objective adds a tensor of its own.

  Architecture architecture() const {
    return {.sizes = sizes,
            .norm = norm,
            .final_norm = final_norm,
            .activation = activation,
            .layout = layout,
            .objective = is_guided ? "entropy_penalty" : ""};
  }
};

const Case cases[] = {
    {"gpt2", gpt2, "layer_norm", "layer_norm", "gelu_new", "pre_norm"},
    {"gpt2_untied", other_output(gpt2), "layer_norm", "layer_norm", "relu", "pre_norm"},
    {"neox", neox, "layer_norm", "layer_norm", "gelu", "parallel"},
    {"neox_sequential", other_output(neox), "layer_norm", "layer_norm", "squared_relu", "pre_norm"},
    // The paper's models with LayerNorm: GPT-2s without some biases, and with more positions than a context.
    {"paper_ln", with_positions(with(gpt2, Biases::query_key), 14), "layer_norm", "layer_norm", "relu",
     "pre_norm"},
    // What transformers does not have.
    {"paper", with(gpt2, Biases::query_key), "identity", "layer_norm", "gelu", "pre_norm"},
    {"slopes", with(gpt2, Biases::none), "identity", "identity", "leaky_learnable_per_layer", "pre_norm"},
    {"global_slope", gpt2, "identity", "layer_norm", "leaky_learnable_global", "pre_norm", true},
    {"post_norm", with(neox, Biases::none), "layer_norm", "identity", "leaky_relu(1/100)", "post_norm"},
    {"sandwich", with(gpt2, Biases::none), "rms_norm", "rms_norm", "silu", "sandwich"},
    {"dyt", with(neox, Biases::query_key), "dynamic_tanh", "dynamic_tanh", "gelu_new", "parallel"},
    {"derf", with(other_output(neox), Biases::all), "dynamic_erf", "dynamic_erf",
     "relu*1+leaky_learnable_per_layer", "pre_norm"},
};

template <template <class> class Objective>
void write(const Architecture& architecture, const std::filesystem::path& folder) {
  DynamicDecoder<Target, NoObserver, Objective> model(
      architecture.sizes,
      parts_named<Target>(architecture.norm, architecture.final_norm, architecture.activation,
                          architecture.layout),
      1, Purpose::evaluation);
  for (auto& parameter : model.parameters().all()) {
    // No values that could hide a mistake, such as a gain of 1 or a bias of 0.
    std::vector<double> values(static_cast<std::size_t>(parameter.size()));
    fill_normal(values.data(), parameter.trainable, 0.4, Philox(11, stream_of(parameter.name)), 0);
    if (parameter.kind == ParameterKind::norm) {
      for (double& value : values) value += 0.7;
    }
    for (double& value : values) value = static_cast<float>(value);
    model.parameters().write(model.device(), parameter, values.data());
  }
  std::filesystem::create_directories(folder);
  save_weights(model, folder / "model.safetensors");
  write_file(folder / "config.json", to_json(architecture).dump(2) + "\n");
}

/// The logits of every prefix.
void print_logits(const std::filesystem::path& folder, const std::vector<std::int32_t>& tokens) {
  const auto model = open_model<Target>(folder);
  Json rows = Json::array();
  for (std::size_t length = 1; length <= tokens.size(); ++length)
    rows.push_back(model->next_logits(std::span(tokens).first(length)));
  std::cout << rows.dump() << '\n';
}

}  // namespace

int main(int argc, char** argv) try {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  if (arguments.size() == 1 && arguments[0] == "list") {
    for (const Case& each : cases) std::cout << each.name << '\n';
    return 0;
  }
  if (arguments.size() == 3 && arguments[0] == "write") {
    for (const Case& each : cases) {
      if (each.name != arguments[1]) continue;
      const auto write_case = each.is_guided ? write<EntropyGuided> : write<CrossEntropy>;
      write_case(each.architecture(), arguments[2]);
      return 0;
    }
    throw Error("there is no case " + arguments[1]);
  }
  if (arguments.size() > 2 && arguments[0] == "logits") {
    std::vector<std::int32_t> tokens;
    for (std::size_t i = 2; i < arguments.size(); ++i) tokens.push_back(std::atoi(arguments[i].c_str()));
    print_logits(arguments[1], tokens);
    return 0;
  }
  throw Error("usage: interop_models list | write CASE FOLDER | logits FOLDER TOKEN...");
} catch (const std::exception& error) {
  std::cerr << "interop_models: " << error.what() << '\n';
  return 1;
}
