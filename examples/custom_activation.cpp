/// An activation of one's own: the squared ReLU, proved by finite differences and then trained with.
/// docs/adding-an-activation.md goes through this file.
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include <lnfree/model.hpp>
#include <lnfree/train/gradient_check.hpp>

using namespace lnfree;

/// max(0, x)^2 (So et al., "Primer", 2021).
struct SquaredReLU {
  static constexpr std::string_view name = "squared_relu";
  static constexpr Saved saved = Saved::input;

  template <class T>
  LNFREE_HOST_DEVICE static T value(T x) {
    return x < T(0) ? T(0) : x * x;
  }

  template <class T>
  LNFREE_HOST_DEVICE static T derivative(T x) {
    return x < T(0) ? T(0) : T(2) * x;
  }
};

/// Whether the backward pass of a small model with this activation agrees with finite differences.
bool gradients_are_right() {
  const auto report = gradient_check<Decoder<tiny, Identity, SquaredReLU, Reference<double>>>();
  std::printf("worst gradient error %.1e\n", report.worst());
  if (report.worst() < 1e-6) return true;
  std::printf("%s", report.text().c_str());
  return false;
}

/// Whether a model with this activation learns a repeating text.
bool learns() {
  constexpr DecoderConfig shape{
      .layers = 2, .heads = 2, .width = 32, .ffn_width = 128, .context = 32, .vocab_size = 128};
  constexpr int batch = 4, steps = 150;
  Decoder<shape, Identity, SquaredReLU> model(batch);
  model.initialize(1337);
  AdamW optimizer(model);
  const WarmupLinearSchedule learning_rate{.peak = 2e-3, .steps = steps};

  const std::string text = "the quick brown fox jumps over the lazy dog, ";
  std::vector<int> tokens(batch * shape.context), targets(tokens.size());
  double first = 0, last = 0;
  for (int step = 0; step < steps; ++step) {
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      tokens[i] = text[(step + i) % text.size()];
      targets[i] = text[(step + i + 1) % text.size()];
    }
    last = model.forward_backward({{batch, shape.context}, tokens, targets});
    if (step == 0) first = last;
    optimizer.step(learning_rate(step));
  }
  std::printf("loss %.3f at the first step, %.3f at the last\n", first, last);
  return last < 0.5 * first;
}

int main() {
  return gradients_are_right() && learns() ? 0 : 1;
}
