#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <numeric>
#include <span>
#include <vector>

#include <lnfree/core/error.hpp>
#include <lnfree/core/random.hpp>

namespace lnfree {

/// How the next token is chosen.
struct SamplingOptions {
  double temperature = 1;  ///< 0: the most likely token (greedy).
  int top_k = 0;           ///< Only the k most likely tokens; 0: all of them.
  std::uint64_t seed = 0;
};

/// One token drawn from softmax(logits / temperature) over the top k; `draw` is uniform in [0, 1).
inline std::int32_t sample(std::span<const double> logits, const SamplingOptions& options, double draw) {
  if (options.temperature == 0) {
    return static_cast<std::int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  }
  std::vector<std::int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const auto logit = [&](std::int32_t token) { return logits[static_cast<std::size_t>(token)]; };
  const auto likelier = [&](std::int32_t a, std::int32_t b) {
    return logit(a) != logit(b) ? logit(a) > logit(b) : a < b;
  };
  const std::size_t k =
      options.top_k == 0 ? order.size() : std::min(order.size(), std::size_t(options.top_k));
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(k), order.end(), likelier);
  std::vector<double> weights(k);
  double total = 0;
  for (std::size_t i = 0; i < k; ++i) {
    weights[i] = std::exp((logit(order[i]) - logit(order[0])) / options.temperature);
    total += weights[i];
  }
  double left = draw * total;
  for (std::size_t i = 0; i < k; ++i) {
    left -= weights[i];
    if (left < 0) return order[i];
  }
  return order[k - 1];
}

/// Continues `prompt` by `count` tokens; each sees the last `context` tokens before it. `on_token`, when
/// given, is told every new token at once and may return false to stop. Returns the prompt and what was
/// added. Throws Error for an empty prompt, a token outside the vocabulary, or options without meaning.
template <class Model>
std::vector<std::int32_t> generate(Model& model, std::span<const std::int32_t> prompt, int count,
                                   const SamplingOptions& options = {},
                                   const std::function<bool(std::int32_t)>& on_token = {}) {
  if (!(options.temperature >= 0)) throw Error("the temperature must be 0 or more");
  if (options.top_k < 0) throw Error("top-k must be 0 (all tokens) or more");
  std::vector<std::int32_t> tokens(prompt.begin(), prompt.end());
  const Philox random(options.seed, stream_of("generate"));
  for (int i = 0; i < count; ++i) {
    const std::vector<double> logits = model.next_logits(tokens);
    tokens.push_back(sample(logits, options, random(static_cast<std::uint64_t>(i))[0] / 4294967296.0));
    if (on_token && !on_token(tokens.back())) break;
  }
  return tokens;
}

}  // namespace lnfree
