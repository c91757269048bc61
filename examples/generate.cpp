/// Continues a text with a model that a trainer has trained: greedy, or sampled by temperature and top-k.
#include <cstdio>
#include <fstream>
#include <limits>
#include <string>
#include <vector>

#include <lnfree/data/tokenizer.hpp>
#include <lnfree/model.hpp>
#include <lnfree/nn/generate.hpp>
#include <lnfree/train/checkpoint.hpp>

#include "command_line.hpp"

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
                "; it takes a model that was trained on a corpus of prepare_corpus --vocab-size " +
                std::to_string(Model::config.vocab_size) + ", and that corpus's tokenizer");
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
  CommandLine app("Continues a text with a model that a trainer has trained.", argv);
  Options options;
  app.add_value("--checkpoint", options.checkpoint, "DIR", "Folder checkpoint/ of a run")->required();
  app.add_value("--tokenizer", options.tokenizer, "FILE", "tokenizer.model of the corpus it was trained on")
      ->required();
  app.add_value("--prompt", options.prompt, "TEXT", "Text to continue, at least a character")->required();
  app.add_count("--tokens", options.tokens, 0, "Tokens to add");
  app.add_real("--temperature", options.sampling.temperature, std::numeric_limits<double>::max(),
               "a number of 0 or more", "0: always the most likely token");
  app.add_count("--top-k", options.sampling.top_k, 0, "Draw from the k most likely tokens; 0: from all");
  app.add_count("--seed", options.sampling.seed, std::uint64_t{0}, "Seed of the draws");
  app.callback([&] {
    if (options.prompt.empty()) throw CLI::ValidationError("--prompt is empty; give a text to continue");
  });
  if (const auto status = app.read(argc, argv)) return *status;
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
