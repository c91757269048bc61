/// The loss, perplexity and head entropies of a trained model on a token shard.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include <lnfree/checkpoint/open_model.hpp>
#include <lnfree/core/excerpt.hpp>
#include <lnfree/data/shard_set.hpp>
#include <lnfree/data/windows.hpp>
#include <lnfree/device/cpu/share_cores.hpp>
#include <lnfree/observer/entropy_observer.hpp>
#include <lnfree/train/evaluate.hpp>
#include <lnfree/train/observations.hpp>

#include "command_line.hpp"
#include "configurations.hpp"
#include "result_file.hpp"

using namespace lnfree;

namespace {

struct Options {
  std::filesystem::path checkpoint, json;
  std::vector<std::filesystem::path> data;
  std::int64_t vocab_size = 0;
  int context = 0, batch_size = 8;
};

void run(const Options& options) {
  const ResultFile result_file(options.json);
  const auto model = open_model<Cpu, EntropyObserver, configurations::Policies>(
      options.checkpoint, {.max_batch = options.batch_size, .context = options.context});
  ShardSet shards = ShardSet::open(options.data, options.vocab_size);
  const std::string data = shards.name();
  const Windows windows(std::move(shards), model->config.context, model->config.vocab_size);
  const Evaluation result = evaluate(*model, windows);
  std::printf("loss %.6f, perplexity %.4f on %lld tokens in windows of %d\n", result.eval_loss,
              result.perplexity(), static_cast<long long>(result.targets), model->config.context);
  std::printf("head entropies in nats, of at most %.3f:\n", std::log(model->config.context));
  for (int layer = 0; layer < model->config.layers; ++layer) {
    std::printf("  layer %2d ", layer);
    for (int head = 0; head < model->config.heads; ++head)
      std::printf(" %6.3f", model->observer().head_entropy(layer, head));
    std::printf("\n");
  }
  Json json{{"checkpoint", printable(options.checkpoint.native())},
            {"data", data},
            {"context", model->config.context},
            {"targets", result.targets},
            {"eval_loss", result.eval_loss},
            {"perplexity", result.perplexity()}};
  for (const auto& seen : observations(*model)) json.update(seen);
  result_file.write(json);
}

}  // namespace

int main(int argc, char** argv) {
  cpu::share_cores(argv);
  CommandLine app("Measures a trained model on a token shard.", argv);
  Options options;
  app.add_checkpoint(options.checkpoint);
  app.add_value("--data", options.data, "FILE", "Token shards, or patterns of their names")->required();
  app.add_count("--vocab-size", options.vocab_size, std::int64_t{0},
                "Vocabulary of shards without a header; 0: from a file beside them");
  app.add_count("--context", options.context, 0, "Tokens in a window; 0: the model's context");
  app.add_count("--batch-size", options.batch_size, 1, "Windows at a time");
  app.add_output("--json", options.json, "FILE", "Also write the results to this file");
  if (const auto status = app.read(argc, argv)) return *status;
  try {
    options.checkpoint = present_checkpoint(options.checkpoint);
    run(options);
  } catch (const std::exception& error) {
    return complain("evaluate", sentence_about(error));
  }
}
