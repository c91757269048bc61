/// A custom observer: the share of heads whose attention is nearly uniform, used together with the library's
/// observer of every head's entropy. docs/adding-an-observer.md explains this file.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include <lnfree/model.hpp>

using namespace lnfree;

/// The share of (sequence, head) pairs of the last pass whose mean entropy is in the top quarter of its
/// range, above 3/4 ln T: the paper's entropic overload.
class OverloadObserver {
 public:
  static constexpr std::string_view name = "overload";
  static constexpr bool observes_entropy = true;

  OverloadObserver(int layers, int heads) : heads_(static_cast<std::size_t>(layers * heads)) {}

  void reset() { overloaded_ = 0; }

  template <class T>
  void record(BatchShape shape, const T* entropy_sums, const std::int32_t* finite_rows) {
    const double high = 0.75 * std::log(shape.length);
    const std::size_t count = heads_ * static_cast<std::size_t>(shape.batch);
    std::size_t above = 0;
    for (std::size_t i = 0; i < count; ++i) above += entropy_sums[i] > high * finite_rows[i];
    overloaded_ = static_cast<double>(above) / static_cast<double>(count);
  }

  double overloaded() const { return overloaded_; }

  /// Reported in metrics.jsonl and evaluation results.
  template <class F>
  void report(const F& f) const {
    f("overloaded", overloaded_);
  }

 private:
  std::size_t heads_;
  double overloaded_ = 0;
};

constexpr DecoderConfig small{
    .layers = 2, .heads = 2, .width = 32, .ffn_width = 128, .context = 128, .vocab_size = 128};

int main() {
  using Model = Decoder<small, Identity, ReLU, Cpu, Observers<EntropyObserver, OverloadObserver>>;
  Model model(1);
  model.initialize(1337);
  const std::string text = "the quick brown fox jumps over the lazy dog, ";
  std::vector<std::int32_t> tokens(small.context), targets(small.context);
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    tokens[i] = text[i % text.size()];
    targets[i] = text[(i + 1) % text.size()];
  }
  model.forward_backward({{1, small.context}, tokens, targets});
  std::printf("first head %.3f nats of at most %.3f; %.0f %% of the heads are overloaded\n",
              model.observer().head_entropy(0, 0), std::log(small.context),
              100 * model.observer().overloaded());
  return model.observer().overloaded() == 1 ? 0 : 1;  // untrained attention is nearly uniform
}
