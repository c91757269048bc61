/// A norm of one's own: RMSNorm, proved by finite differences and then trained with. docs/adding-a-norm.md
/// goes through this file.
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include <lnfree/model.hpp>
#include <lnfree/train/gradient_check.hpp>

using namespace lnfree;

/// y = gain x / sqrt(mean(x^2) + 1e-6) over the channels of each row (Zhang and Sennrich, 2019).
struct RMSNorm {
  static constexpr std::string_view name = "rms_norm";
  static constexpr bool has_gain = true;
  static constexpr bool has_bias = false;
  static constexpr double epsilon = 1e-6;

  // mean(x^2) = variance + mean^2; nothing is subtracted, so there is no shift.
  template <class T>
  LNFREE_HOST_DEVICE static RowStatistics<T> statistics(T mean, T variance) {
    return {T(0), T(1) / math::sqrt(variance + mean * mean + T(epsilon))};
  }

  template <class T>
  LNFREE_HOST_DEVICE static T value(T x, RowStatistics<T> row) {
    return x * row.scale;
  }

  template <class T>
  LNFREE_HOST_DEVICE static T gradient(T d_y, T y, RowStatistics<T> row, T /*mean_d_y*/, T mean_d_y_y) {
    return row.scale * (d_y - y * mean_d_y_y);
  }
};

/// Whether the backward pass of a small model with this norm, the final one included, agrees with finite
/// differences.
bool gradients_are_right() {
  const auto report = gradient_check<Decoder<clean(tiny), RMSNorm, GELU, Reference<double>>>();
  std::printf("worst gradient error %.1e\n", report.worst());
  if (report.worst() < 1e-6) return true;
  std::printf("%s", report.text().c_str());
  return false;
}

/// Whether a model with this norm learns a repeating text.
bool learns() {
  constexpr DecoderConfig shape{
      .layers = 2, .heads = 2, .width = 32, .ffn_width = 128, .context = 32, .vocab_size = 128};
  constexpr int batch = 4, steps = 150;
  Decoder<clean(shape), RMSNorm, GELU> model(batch);
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
