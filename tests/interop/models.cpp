/// interop_models list
/// interop_models write CASE FOLDER
/// interop_models logits FOLDER TOKEN...
///
/// The side of lnfree in what test_transformers.py and test_llm_c.py compare. `list` prints the names of the
/// cases; `write` makes a checkpoint of one with random numbers in every tensor; `logits` prints those of
/// each prefix of the tokens, by the first case that FOLDER/config.json describes.
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <iostream>
#include <ratio>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <lnfree/backend/eigen/eigen.hpp>
#include <lnfree/checkpoint/architecture.hpp>
#include <lnfree/checkpoint/weights.hpp>
#include <lnfree/model.hpp>

using namespace lnfree;

namespace {

using Target = Reference<double>;

// No size is that of another model, none a multiple of a vector's, and a GPT-NeoX has not as many heads as
// there are matrices in Q | K | V: else a mistake in their order could hide.
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

/// `config` with another final norm and other biases.
constexpr DecoderConfig with(DecoderConfig config, FinalNorm final_norm, Biases biases) {
  config.final_norm = final_norm;
  config.biases = biases;
  return config;
}

constexpr DecoderConfig with_positions(DecoderConfig config, int positions) {
  config.positions = positions;
  return config;
}

/// With a tied output matrix where `config` has one of its own, and the other way round.
constexpr DecoderConfig other_output(DecoderConfig config) {
  config.tied_output = !config.tied_output;
  return config;
}

template <class Model>
void write(const std::filesystem::path& folder) {
  Model model(1);
  for (auto& parameter : model.parameters().all()) {
    // Nothing behind which a mistake could hide, such as a gain of 1 or a bias of 0.
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
  write_file(folder / "config.json", to_json(architecture_of(model)).dump(2) + "\n");
}

/// The logits of every prefix, or nothing where the model is of another architecture.
template <class Model>
bool print_logits(const std::filesystem::path& folder, const std::vector<std::int32_t>& tokens) {
  if (!architecture_difference<Model>(folder).empty()) return false;
  Model model(1, Purpose::evaluation);
  load_weights(model, folder);
  Json rows = Json::array();
  for (std::size_t length = 1; length <= tokens.size(); ++length)
    rows.push_back(model.next_logits(std::span(tokens).first(length)));
  std::cout << rows.dump() << '\n';
  return true;
}

struct Case {
  std::string_view name;
  void (*write)(const std::filesystem::path&);
  bool (*print_logits)(const std::filesystem::path&, const std::vector<std::int32_t>&);
};

template <DecoderConfig config, class Norm, class Activation, class Layout = AsConfigured,
          template <class> class Objective = CrossEntropy>
constexpr Case case_of(std::string_view name) {
  using Model = Decoder<config, Norm, Activation, Target, NoObserver, Layout, Objective>;
  return {name, write<Model>, print_logits<Model>};
}

constexpr Case cases[] = {
    case_of<gpt2, LayerNorm, GELUTanh>("gpt2"),
    case_of<other_output(gpt2), LayerNorm, ReLU>("gpt2_untied"),
    case_of<neox, LayerNorm, GELU, Parallel>("neox"),
    case_of<other_output(neox), LayerNorm, SquaredReLU, PreNorm>("neox_sequential"),
    // The paper's models with LayerNorm: GPT-2s without some biases, and with more positions than a context.
    case_of<with_positions(with(gpt2, FinalNorm::layer_norm, Biases::query_key), 14), LayerNorm, ReLU>(
        "paper_ln"),
    // What transformers does not have.
    case_of<with(gpt2, FinalNorm::layer_norm, Biases::query_key), Identity, GELU>("paper"),
    case_of<with(gpt2, FinalNorm::none, Biases::none), Identity, LeakyLearnable<Scope::per_layer>>("slopes"),
    case_of<gpt2, Identity, LeakyLearnable<Scope::global>, AsConfigured, EntropyGuided>("global_slope"),
    case_of<with(neox, FinalNorm::none, Biases::none), LayerNorm, LeakyReLU<std::ratio<1, 5>>, PostNorm>(
        "post_norm"),
    case_of<with(gpt2, FinalNorm::same_as_norm, Biases::none), RMSNorm, SiLU, Sandwich>("sandwich"),
    case_of<with(neox, FinalNorm::same_as_norm, Biases::query_key), DynamicTanh, GELUTanh, Parallel>("dyt"),
    case_of<with(other_output(neox), FinalNorm::same_as_norm, Biases::all), DynamicErf,
            Layerwise<ReLU, 1, LeakyLearnable<Scope::per_layer>>>("derf"),
};

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
      each.write(arguments[2]);
      return 0;
    }
    throw Error("there is no case " + arguments[1]);
  }
  if (arguments.size() > 2 && arguments[0] == "logits") {
    std::vector<std::int32_t> tokens;
    for (std::size_t i = 2; i < arguments.size(); ++i) tokens.push_back(std::atoi(arguments[i].c_str()));
    for (const Case& each : cases) {
      if (each.print_logits(arguments[1], tokens)) return 0;
    }
    throw Error("no case is of the architecture of " + arguments[1]);
  }
  throw Error("usage: interop_models list | write CASE FOLDER | logits FOLDER TOKEN...");
} catch (const std::exception& error) {
  std::cerr << "interop_models: " << error.what() << '\n';
  return 1;
}
