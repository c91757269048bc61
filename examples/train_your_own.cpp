/// Trains a custom activation on a corpus of prepare_corpus, using only the library: metrics, evaluations,
/// checkpoints, and a run that continues where it was interrupted.
///
///   train_your_own TRAIN.bin VAL.bin OUT
#include <cstdio>
#include <filesystem>
#include <string>
#include <string_view>

#include <lnfree/model.hpp>
#include <lnfree/train/trainer.hpp>

using namespace lnfree;

/// x sigmoid(1.702 x): GELU's first approximation (Hendrycks and Gimpel, 2016).
struct QuickGELU {
  static constexpr std::string_view name = "quick_gelu";
  static constexpr Saved saved = Saved::input;

  template <class T>
  LNFREE_HOST_DEVICE static T value(T x) {
    return x / (T(1) + math::exp(T(-1.702) * x));
  }

  template <class T>
  LNFREE_HOST_DEVICE static T derivative(T x) {
    const T s = T(1) / (T(1) + math::exp(T(-1.702) * x));
    return s * (T(1) + T(1.702) * x * (T(1) - s));
  }
};

constexpr DecoderConfig shape{
    .layers = 4, .heads = 4, .width = 64, .ffn_width = 256, .context = 64, .vocab_size = 4096};

int main(int argc, char** argv) try {
  if (argc != 4)
    throw Error("TRAIN.bin VAL.bin OUT are required: two token shards and the folder of the run");
  const Windows train(TokenShard::open(argv[1]), shape.context, shape.vocab_size);
  const Windows validation(TokenShard::open(argv[2]), shape.context, shape.vocab_size);

  Decoder<shape, Identity, QuickGELU, Cpu, EntropyObserver> model(/*max_batch=*/16);
  model.initialize(/*seed=*/1337);
  const auto show_step = [](const Progress& now) {
    if (now.logged) std::printf("step %lld: loss %.3f\n", static_cast<long long>(now.step), now.loss);
  };
  const auto show_message = [](const std::string& text) { std::puts(text.c_str()); };
  Trainer trainer(model, &train, &validation,
                  {.steps = train.count() / 16, .batch_size = 16, .accumulate = 1, .learning_rate = 2e-3},
                  argv[3], {show_step, show_message});
  std::filesystem::exists(trainer.checkpoint_folder()) ? trainer.resume() : trainer.start();
  if (trainer.run() != Outcome::finished) return 1;

  std::printf("perplexity %.3f\n", evaluate(model, validation).perplexity());
  for (const auto& layer : model.observer().head_entropy())
    std::printf("head entropies %.2f %.2f %.2f %.2f nats\n", layer[0], layer[1], layer[2], layer[3]);
} catch (const std::exception& error) {
  std::fprintf(stderr, "train_your_own: %s\n", error.what());
  return 1;
}
