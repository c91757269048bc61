/// Replaces every part of a model and its training from outside the library: layout, objective, observer,
/// optimizer, schedule, initialization. The model's gradients are checked by finite differences. It is
/// trained on a small corpus that the program makes, interrupted and resumed. docs/change.md explains this
/// file.
///
///   change FOLDER
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include <lnfree/model.hpp>
#include <lnfree/train/gradient_check.hpp>
#include <lnfree/train/trainer.hpp>

using namespace lnfree;

/// A pointwise norm with one learned number, 0 at first (Bachlechner et al., "ReZero is All You Need", 2020).
struct Gate {
  static constexpr std::string_view name = "gate";
  static constexpr std::array parameters{scalar("alpha", 0.0)};

  template <class T>
  LNFREE_HOST_DEVICE static T value(T x, const T (&alpha)[1]) {
    return alpha[0] * x;
  }
};

/// x = norm(x + gate(attention(x))), and the same with the feed-forward network: Post-LN with branches that
/// open during training.
struct GatedPostNorm {
  static constexpr std::string_view name = "gated_post_norm";

  static auto wire(auto& layout, auto x) {
    const auto attended = layout.template norm<Gate>("gate_1", NormSite::attention, layout.attention(x));
    x = layout.norm("ln_1", NormSite::attention, layout.add(x, attended));
    const auto fed = layout.template norm<Gate>("gate_2", NormSite::feed_forward, layout.feed_forward(x));
    return layout.norm("ln_2", NormSite::feed_forward, layout.add(x, fed));
  }
};

/// |x|.
struct Magnitude {
  template <class T>
  LNFREE_HOST_DEVICE T operator()(T x) const {
    return x < T(0) ? -x : x;
  }
};

/// d += scale sign(x).
struct AddSign {
  double scale;
  template <class T>
  LNFREE_HOST_DEVICE void operator()(T x, T& d) const {
    d += x > T(0) ? static_cast<T>(scale) : x < T(0) ? static_cast<T>(-scale) : T(0);
  }
};

/// The cross-entropy and, in every layer, `coefficient` times the mean of |h| over the hidden layer h: most
/// hidden units of a ReLU network are then 0.
template <class Device>
class QuietHidden {
 public:
  using Scalar = typename Device::Scalar;
  static constexpr std::string_view name = "quiet_hidden";

  QuietHidden(ParameterSet<Device>&, const DecoderConfig&) {}

  double coefficient = 0.05;  ///< Chosen at run time: model.objective().coefficient.

  double on_hidden(Device& device, const TrainingPass& pass, int /*layer*/, Matrix<const Scalar> hidden,
                   Matrix<Scalar> d_hidden) {
    const double scale = coefficient / static_cast<double>(hidden.size());
    for_each_element(device, hidden.size(), AddSign{pass.gradient_scale * scale}, hidden.data, d_hidden.data);
    return scale * sum_of(device, hidden.size(), Magnitude{}, hidden.data);
  }
};

/// The largest attention score of each layer, which must not overflow in eight-bit inference.
class ScoreObserver {
 public:
  static constexpr std::string_view name = "scores";
  static constexpr bool observes_scores = true;

  ScoreObserver(int layers, int heads) : heads_(heads), max_(static_cast<std::size_t>(layers)) { reset(); }

  void reset() { std::fill(max_.begin(), max_.end(), -INFINITY); }

  template <class T>
  void record_scores(BatchShape shape, const T* max_scores) {  // (L, B, H, T)
    for (double& of_layer : max_) {
      const auto count = heads_ * shape.rows();
      of_layer = std::max<double>(of_layer, *std::max_element(max_scores, max_scores + count));
      max_scores += count;
    }
  }

  template <class F>
  void report(const F& f) const {
    f("max_score", max_);
  }

 private:
  Index heads_;
  std::vector<double> max_;
};

/// Lion (Chen et al., "Symbolic Discovery of Optimization Algorithms", 2023), one element:
/// w -= rate (sign(beta1 m + (1 - beta1) g) + decay w);  m = beta2 m + (1 - beta2) g.
template <class T>
struct LionRule {
  T rate, decay, beta1, beta2, scale;

  LNFREE_HOST_DEVICE void operator()(T& w, T gradient, T& m) const {
    const T g = scale * gradient, u = beta1 * m + (T(1) - beta1) * g;
    w -= rate * ((u > T(0) ? T(1) : u < T(0) ? T(-1) : T(0)) + decay * w);
    m = beta2 * m + (T(1) - beta2) * g;
  }
};

template <class Model>
class Lion : public OptimizerBase<Model> {
 public:
  static constexpr std::string_view name = "lion";
  struct Options {
    double beta1 = 0.9, beta2 = 0.99, weight_decay = 0.1, max_gradient_norm = 1;
  };

  explicit Lion(Model& model, const Options& options = {})
      : OptimizerBase<Model>(model, "Lion"), options_(options), m_(this->add_state("m")) {}

  static std::size_t bytes(const MemoryPlan& model) { return model.gradients; }

  double step(double rate) {
    using T = typename Model::Accumulator;
    return this->clipped_step(options_.max_gradient_norm, [&](double scale) {
      for (const auto& range : this->model().parameters().ranges()) {
        const double decay = is_matrix(range.kind) ? options_.weight_decay : 0;
        this->apply(range, LionRule<T>{T(rate), T(decay), T(options_.beta1), T(options_.beta2), T(scale)},
                    m_);
      }
    });
  }

 private:
  Options options_;
  typename OptimizerBase<Model>::State& m_;
};

/// 1 / sqrt(s) after a warm-up, as for the original transformer.
struct InverseRoot {
  static constexpr std::string_view name = "inverse_root";
  double peak = 1e-3;
  double warmup = 20;

  double operator()(std::int64_t step) const {
    const double s = static_cast<double>(step) + 1;
    return peak * std::min(s / warmup, std::sqrt(warmup / s));
  }
};

/// Without a final norm, since the last block ends with a norm.
constexpr DecoderConfig without_final_norm(DecoderConfig config) {
  config.final_norm = FinalNorm::none;
  return config;
}
constexpr DecoderConfig shape = without_final_norm(
    {.layers = 2, .heads = 2, .width = 32, .ffn_width = 128, .context = 32, .vocab_size = 128});

template <DecoderConfig Config, class Device>
using Model = Decoder<Config, LayerNorm, ReLU, Device, Observers<EntropyObserver, ScoreObserver>,
                      GatedPostNorm, QuietHidden>;

/// Changes the initial weights: scales the output matrices of the branches by 1 / sqrt(2 L), as in GPT-2.
template <class M>
void scale_outputs(M& model) {
  auto& parameters = model.parameters();
  for (auto& parameter : parameters.all()) {
    if (!parameter.name.ends_with("c_proj.weight")) continue;
    auto values = parameters.read(model.device(), parameter);
    for (auto& value : values) value /= std::sqrt(2.0f * M::config.layers);
    parameters.write(model.device(), parameter, values.data());
  }
}

/// A token shard of a repeating text, in which each byte is a token.
Windows make_corpus(const std::filesystem::path& file) {
  const std::string text = "the quick brown fox jumps over the lazy dog, ";
  std::vector<std::int32_t> tokens(20'000);
  for (std::size_t i = 0; i < tokens.size(); ++i) tokens[i] = text[i % text.size()];
  TokenShardWriter writer(file, shape.vocab_size);
  writer.append(tokens);
  writer.finish({.context = shape.context});
  return {TokenShard::open(file), shape.context, shape.vocab_size};
}

int main(int argc, char** argv) try {
  if (argc != 2) throw Error("FOLDER, for the corpus and the run, is required");
  const std::filesystem::path folder = argv[1];
  const auto report = gradient_check<Model<without_final_norm(tiny), Reference<double>>>();
  std::printf("worst gradient error %.1e\n", report.worst());
  if (!(report.worst() < 1e-6)) throw Error(report.text());

  std::filesystem::create_directories(folder);
  const Windows corpus = make_corpus(folder / "corpus.bin");
  const TrainerOptions options{.steps = 300, .batch_size = 8, .accumulate = 1, .observe_every = 50};
  using MyTrainer = Trainer<Model<shape, Cpu>, Lion, InverseRoot>;
  MyTrainer::Parts parts = MyTrainer::parts(options);
  parts.schedule.peak = 2e-3;
  double first = 0, last = 0;
  for (const bool resumes : {false, true}) {
    Model<shape, Cpu> model(options.batch_size);
    model.initialize(1337);
    scale_outputs(model);
    MyTrainer trainer(model, &corpus, &corpus, options, parts, folder / "run",
                      {.on_step = [&](const Progress& now) { (now.step == 1 ? first : last) = now.loss; }});
    resumes ? trainer.resume() : trainer.start();
    trainer.run([&] { return !resumes && trainer.step() == 150; });
  }
  std::printf("loss %.3f at the first step, %.3f at the last\n", first, last);
  return last < 0.25 * first ? 0 : 1;
} catch (const std::exception& error) {
  std::fprintf(stderr, "change: %s\n", error.what());
  return 1;
}
