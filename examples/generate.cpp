/// Continues a text with a model that a trainer has trained: greedy, or sampled by temperature and top-k.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

#include <lnfree/data/tokenizer.hpp>
#include <lnfree/model.hpp>
#include <lnfree/nn/generate.hpp>
#include <lnfree/train/checkpoint.hpp>

using namespace lnfree;

namespace {

struct Options {
  std::filesystem::path checkpoint, tokenizer;
  std::string prompt;
  int tokens = 100;
  SamplingOptions sampling{.temperature = 0.8, .top_k = 40};
};

template <class Model>
void run(const Options& options) {
  const Tokenizer tokenizer = Tokenizer::load(options.tokenizer);
  if (tokenizer.vocab_size() != Model::config.vocab_size) {
    throw Error(options.tokenizer.string() + " has " + std::to_string(tokenizer.vocab_size()) +
                " pieces, and the model a vocabulary of " + std::to_string(Model::config.vocab_size) +
                "; give the tokenizer that its corpus was prepared with");
  }
  Model model(1, Purpose::evaluation);
  load_weights(model, options.checkpoint / "model.safetensors");
  std::fputs(options.prompt.c_str(), stdout);
  generate(model, tokenizer.encode(options.prompt), options.tokens, options.sampling,
           [&](std::int32_t token) {
             const std::string bytes = tokenizer.decode({&token, 1});
             std::fwrite(bytes.data(), 1, bytes.size(), stdout);
             std::fflush(stdout);
             return true;
           });
  std::puts("");
}

/// Runs the one of the models that a config.json describes; false when none is.
template <class... Models>
bool run_matching(Json config, const Options& options) {
  config.erase("lnfree_version");
  const auto run_if_described = [&]<class Model>() {
    Json described = config_json<Model>();
    described.erase("lnfree_version");
    if (described != config) return false;
    run<Model>(options);
    return true;
  };
  return (run_if_described.template operator()<Models>() || ...);
}

/// The paper's four configurations at one shape.
template <DecoderConfig Shape>
bool run_shape(const Json& config, const Options& options) {
  return run_matching<Decoder<Shape, LayerNorm, GELU>, Decoder<Shape, LayerNorm, ReLU>,
                      Decoder<Shape, Identity, GELU>, Decoder<Shape, Identity, ReLU>>(config, options);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Continues a text with a model that a trainer has trained.");
  app.option_defaults()->always_capture_default();
  Options options;
  app.add_option("--checkpoint", options.checkpoint, "Folder with model.safetensors and config.json")
      ->required()
      ->default_str("");
  app.add_option("--tokenizer", options.tokenizer, "tokenizer.model of the corpus it was trained on")
      ->required()
      ->default_str("");
  app.add_option("--prompt", options.prompt, "Text to continue")->required()->default_str("");
  app.add_option("--tokens", options.tokens, "Tokens to add")->check(CLI::NonNegativeNumber);
  app.add_option("--temperature", options.sampling.temperature, "0: always the most likely token")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--top-k", options.sampling.top_k, "Draw from the k most likely tokens; 0: from all")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--seed", options.sampling.seed, "Seed of the draws");
  CLI11_PARSE(app, argc, argv);
  try {
    const std::filesystem::path path = options.checkpoint / "config.json";
    std::ifstream file(path);
    if (!file)
      throw Error("cannot read " + path.string() + "; --checkpoint takes the folder checkpoint/ of a run");
    const Json config = Json::parse(file, nullptr, false);
    if (!config.is_object()) throw Error(path.string() + " is damaged: it is no JSON object");
    if (!run_shape<demo>(config, options) && !run_shape<gpt2_small>(config, options)) {
      throw Error(path.string() +
                  " describes none of the models this program knows, the four configurations of " +
                  "demo and gpt2; compile your own Decoder into it");
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "generate: %s\n", error.what());
    return 1;
  }
}
