/// Continues a text with a model that a trainer has trained: greedy, or sampled by temperature and top-k.
#include "generate.hpp"

#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <lnfree/backend/cpu/share_cores.hpp>
#include <lnfree/data/tokenizer.hpp>
#include <lnfree/nn/generate.hpp>
#include <lnfree/train/checkpoint.hpp>
#include <lnfree/train/shard_identity.hpp>

#include "command_line.hpp"

using namespace lnfree;

namespace {

struct Options {
  std::filesystem::path checkpoint, tokenizer;
  std::string prompt;
  int tokens = 100;
  SamplingOptions sampling{.temperature = 0.8, .top_k = 40};
};

/// The models in configurations.def that the checkpoint describes, all of one shape.
std::vector<DescribedModel> described_models(const std::filesystem::path& checkpoint) {
#define SHAPE(name, ...) \
  if (auto models = generators::name(checkpoint); !models.empty()) return models;
#include "configurations.def"
  return {};
}

/// The first that the checkpoint has the weights of: config.json describes the models of all objectives
/// alike, and an objective may have parameters of its own. Throws the Error of the first when it has those of
/// none.
NextLogits load(const std::vector<DescribedModel>& models) {
  std::exception_ptr first;
  for (const DescribedModel& model : models) {
    try {
      return model.load();
    } catch (const Error&) {
      if (!first) first = std::current_exception();
    }
  }
  std::rethrow_exception(first);
}

/// A model as its tokenizer knows it: one that was trained on a corpus of a smaller vocabulary than its own
/// has logits for tokens that do not exist.
struct WithinVocabulary {
  NextLogits model;
  int vocab_size;

  std::vector<double> next_logits(std::span<const std::int32_t> tokens) {
    std::vector<double> logits = model(tokens);
    logits.resize(static_cast<std::size_t>(vocab_size));
    return logits;
  }
};

void run(const Options& options, const std::vector<DescribedModel>& models) {
  const Tokenizer tokenizer = Tokenizer::load(options.tokenizer);
  const int vocab_size = models.front().vocab_size;
  if (tokenizer.vocab_size() > vocab_size) {
    throw Error(options.tokenizer.string() + " has " + std::to_string(tokenizer.vocab_size()) +
                " tokens, more than the model's " + std::to_string(vocab_size) +
                ", so the model was trained on another corpus; give the tokenizer.model of that one");
  }
  if (std::filesystem::exists(options.checkpoint / "trainer.json")) {
    const ShardIdentity trained =
        saved_identity(read_checkpoint_json(options.checkpoint / "trainer.json"), "train");
    const ShardIdentity given{options.tokenizer.string(), "", tokenizer.fingerprint(),
                              tokenizer.vocab_size()};
    if (tokenizers_differ(trained, given)) {
      throw Error(tokenizer_text(given) + " is not the tokenizer of " + tokenizer_text(trained) +
                  ", on which " + options.checkpoint.string() +
                  " was trained; give the tokenizer.model of that corpus");
    }
  }
  WithinVocabulary speaker{load(models), tokenizer.vocab_size()};
  const auto print = [](std::string_view text) {
    std::fwrite(text.data(), 1, text.size(), stdout);
    require_standard_output();
  };
  print(options.prompt);
  generate(speaker, tokenizer.encode(options.prompt), options.tokens, options.sampling,
           [&](std::int32_t token) {
             print(tokenizer.decode({&token, 1}));
             return true;
           });
  print("\n");
}

}  // namespace

int main(int argc, char** argv) {
  cpu::share_cores(argv);
  CommandLine app("Continues a text with a model that a trainer has trained.", argv);
  Options options;
  app.add_value("--checkpoint", options.checkpoint, "DIR", "Folder checkpoint/ of a run")->required();
  app.add_value("--tokenizer", options.tokenizer, "FILE", "tokenizer.model of the corpus it was trained on")
      ->required();
  app.add_value("--prompt", options.prompt, "TEXT", "Text to continue, at least a character")->required();
  app.add_count("--tokens", options.tokens, 0, "Tokens to add");
  app.add_real("--temperature", options.sampling.temperature, "0: always the most likely token");
  app.add_count("--top-k", options.sampling.top_k, 0, "Draw from the k most likely tokens; 0: from all");
  app.add_count("--seed", options.sampling.seed, std::uint64_t{0}, "Seed of the draws");
  app.callback([&] {
    if (options.prompt.empty()) throw CLI::ValidationError("--prompt is empty; give a text to continue");
  });
  if (const auto status = app.read(argc, argv)) return *status;
  try {
    options.checkpoint = present_checkpoint(options.checkpoint);
    const std::filesystem::path path = options.checkpoint / "config.json";
    if (!std::filesystem::exists(path))
      throw Error("cannot read " + path.string() + "; --checkpoint takes the folder checkpoint/ of a run");
    const std::vector<DescribedModel> models = described_models(options.checkpoint);
    if (models.empty()) {
      throw Error(path.string() +
                  " describes none of the models that this program knows, those of the programs "
                  "train_<shape>_<configuration>; add yours to examples/configurations.def");
    }
    run(options, models);
  } catch (const std::exception& error) {
    return complain("generate", error.what());
  }
}
