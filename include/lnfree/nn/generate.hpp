#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <numeric>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <lnfree/core/error.hpp>
#include <lnfree/core/random.hpp>
#include <lnfree/nn/key_value_cache.hpp>

namespace lnfree {

/// How the next token is chosen: the steps of a usual sampler, in this order.
struct SamplingOptions {
  double repetition_penalty = 1;  ///< Above 1: logits of tokens in the text are divided by it, or multiplied
                                  ///< where they are negative (Keskar et al., 2019).
  double temperature = 1;         ///< 0: the most likely token (greedy).
  int top_k = 0;                  ///< Only the k most likely tokens; 0: all of them.
  double top_p = 1;  ///< Only the most likely tokens that have this share of the probability together
                     ///< (Holtzman et al., 2020).
  double min_p = 0;  ///< Only tokens at least this share as likely as the most likely one.
  std::uint64_t seed = 0;
};

/// Throws Error for invalid options.
inline void check(const SamplingOptions& options) {
  const auto require = [](bool holds, const char* what) {
    if (!holds) throw Error(what);
  };
  require(options.repetition_penalty > 0, "the repetition penalty must be more than 0");
  require(options.temperature >= 0, "the temperature must be 0 or more");
  require(options.top_k >= 0, "top-k must be 0 (all tokens) or more");
  require(options.top_p > 0 && options.top_p <= 1, "top-p must be more than 0 and at most 1");
  require(options.min_p >= 0 && options.min_p <= 1, "min-p must be from 0 to 1");
}

/// Penalizes each token of `text` in `logits` once, however often it occurs.
inline void penalize_repetition(std::span<double> logits, std::span<const std::int32_t> text,
                                double penalty) {
  std::vector<std::int32_t> tokens(text.begin(), text.end());
  std::sort(tokens.begin(), tokens.end());
  tokens.erase(std::unique(tokens.begin(), tokens.end()), tokens.end());
  for (const std::int32_t token : tokens) {
    if (static_cast<std::size_t>(token) >= logits.size()) continue;
    double& logit = logits[static_cast<std::size_t>(token)];
    logit = logit > 0 ? logit / penalty : logit * penalty;
  }
}

/// One token sampled with the options except the repetition penalty; `draw` is uniform in [0, 1).
inline std::int32_t sample(std::span<const double> logits, const SamplingOptions& options, double draw) {
  if (options.temperature == 0) {
    return static_cast<std::int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  }
  // Sorted, most likely first, only if needed: sorting a vocabulary takes longer than drawing from it.
  std::vector<std::int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const auto logit = [&](std::int32_t token) { return logits[static_cast<std::size_t>(token)]; };
  std::size_t kept = options.top_k == 0 ? order.size() : std::min(order.size(), std::size_t(options.top_k));
  if (kept < order.size() || options.top_p < 1) {
    std::partial_sort(
        order.begin(), order.begin() + static_cast<std::ptrdiff_t>(kept), order.end(),
        [&](std::int32_t a, std::int32_t b) { return logit(a) != logit(b) ? logit(a) > logit(b) : a < b; });
  }
  const double max = *std::max_element(logits.begin(), logits.end());
  std::vector<double> weights(kept);  // relative to that of the most likely token
  double total = 0;
  for (std::size_t i = 0; i < kept; ++i) {
    weights[i] = std::exp((logit(order[i]) - max) / options.temperature);
    total += weights[i];
  }
  if (options.top_p < 1) {
    double share = 0;
    std::size_t nucleus = 0;
    while (nucleus < kept && share < options.top_p * total) share += weights[nucleus++];
    kept = nucleus;
  }
  weights.resize(kept);
  for (double& weight : weights) {
    if (weight < options.min_p) weight = 0;
  }
  double left = draw * std::accumulate(weights.begin(), weights.end(), 0.0);
  std::size_t drawn = 0;
  for (std::size_t i = 0; i < kept; ++i) {
    if (weights[i] == 0) continue;
    drawn = i;
    left -= weights[i];
    if (left < 0) break;
  }
  return order[drawn];
}

/// Draws the next token of `text` from its logits, to which a repetition penalty is applied first. `number`
/// counts the tokens drawn with this seed, from 0 on. Throws Error for a logit that is not a number.
inline std::int32_t next_token(std::span<double> logits, std::span<const std::int32_t> text,
                               const SamplingOptions& options, int number) {
  if (std::any_of(logits.begin(), logits.end(), [](double logit) { return std::isnan(logit); }))
    throw Error(
        "the model gives logits that are not numbers: its training has diverged; take another checkpoint");
  if (options.repetition_penalty != 1) penalize_repetition(logits, text, options.repetition_penalty);
  const Philox random(options.seed, stream_of("generate"));
  return sample(logits, options, random(static_cast<std::uint64_t>(number))[0] / 4294967296.0);
}

/// Continues `prompt` by `count` tokens, sampled from the model's next_logits(). `on_token`, if given, is
/// called with each new token and may return false to stop. Returns the prompt and its continuation. Throws
/// Error for an empty prompt, a token outside the vocabulary, or invalid options.
template <class Model>
std::vector<std::int32_t> generate(Model& model, std::span<const std::int32_t> prompt, int count,
                                   const SamplingOptions& options = {},
                                   const std::function<bool(std::int32_t)>& on_token = {}) {
  check(options);
  std::vector<std::int32_t> tokens(prompt.begin(), prompt.end());
  for (int i = 0; i < count; ++i) {
    std::vector<double> logits = model.next_logits(tokens);
    tokens.push_back(next_token(logits, tokens, options, i));
    if (on_token && !on_token(tokens.back())) break;
  }
  return tokens;
}

/// A text that generate_together() continues beside others.
struct TextToContinue {
  /// The prompt, at least one token.
  std::vector<std::int32_t> tokens;
  int count = 0;             ///< Maximum number of tokens to add.
  SamplingOptions sampling;  ///< Includes the seed of this text.
  /// Called with each new token; may return false to stop. Optional.
  std::function<bool(std::int32_t)> on_token;
  /// Called at the end with the prompt and its continuation. Optional.
  std::function<void(std::span<const std::int32_t>)> on_end;
};

/// Continues several texts together, at most max_batch() of them at a time: each pass adds a token to each,
/// and a text that ends makes room for another. The model must be built for generation. next(must_wait)
/// returns the next text, or nullopt. It is called whenever there is room. `must_wait` is true if no text is
/// left in progress: then it may block, and nullopt ends the call. Otherwise it should return at once.
/// Whether a text depends on the others is said at next_logits_of(). Throws Error as generate() does.
template <class Model, class Next>
void generate_together(Model& model, const Next& next) {
  struct InProgress {
    int slot = 0, added = 0;
    TextToContinue text;
  };
  std::vector<InProgress> texts;
  std::vector<int> free_slots(static_cast<std::size_t>(model.max_batch()));
  std::iota(free_slots.rbegin(), free_slots.rend(), 0);
  for (;;) {
    while (!free_slots.empty()) {
      std::optional<TextToContinue> text = next(texts.empty());
      if (!text) break;
      check(text->sampling);
      if (text->count <= 0) {
        if (text->on_end) text->on_end(text->tokens);
        continue;
      }
      model.forget(free_slots.back());
      texts.push_back({free_slots.back(), 0, std::move(*text)});
      free_slots.pop_back();
    }
    if (texts.empty()) return;

    std::vector<CachedText> kept;
    for (const InProgress& one : texts) kept.push_back({one.slot, one.text.tokens});
    std::vector<std::vector<double>> logits = model.next_logits_of(kept);
    for (std::size_t i = 0; i < texts.size(); ++i) {
      InProgress& one = texts[i];
      std::vector<std::int32_t>& tokens = one.text.tokens;
      tokens.push_back(next_token(logits[i], tokens, one.text.sampling, one.added++));
      const bool goes_on = !one.text.on_token || one.text.on_token(tokens.back());
      if (goes_on && one.added < one.text.count) continue;
      if (one.text.on_end) one.text.on_end(tokens);
      free_slots.push_back(one.slot);
      one.slot = -1;
    }
    std::erase_if(texts, [](const InProgress& one) { return one.slot < 0; });
  }
}

/// Continues each prompt by `count` tokens as generate() does, but all of them together. The n-th prompt uses
/// the seed plus n - 1.
template <class Model>
std::vector<std::vector<std::int32_t>> generate(Model& model,
                                                std::span<const std::vector<std::int32_t>> prompts, int count,
                                                const SamplingOptions& options = {}) {
  std::vector<std::vector<std::int32_t>> texts(prompts.size());
  std::size_t asked = 0;
  generate_together(model, [&](bool) -> std::optional<TextToContinue> {
    if (asked == prompts.size()) return std::nullopt;
    SamplingOptions sampling = options;
    sampling.seed += asked;
    const auto keep = [&to = texts[asked]](std::span<const std::int32_t> tokens) {
      to.assign(tokens.begin(), tokens.end());
    };
    return TextToContinue{prompts[asked++], count, sampling, {}, keep};
  });
  return texts;
}

}  // namespace lnfree
