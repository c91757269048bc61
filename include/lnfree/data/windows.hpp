#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <lnfree/core/error.hpp>
#include <lnfree/core/excerpt.hpp>
#include <lnfree/core/splitmix64.hpp>
#include <lnfree/data/shard_set.hpp>
#include <lnfree/data/token_shard.hpp>

namespace lnfree {

/// Token shards divided into consecutive windows of T tokens that do not overlap, one shard after the other.
/// No window spans two shards; an incomplete last window of a shard is dropped.
class Windows {
 public:
  /// Takes the shards, or a single one, and checks them against the model, reading them once. Throws Error if
  /// a token id is beyond the vocabulary, if there is no whole window, or if the description beside a shard
  /// belongs to another file or gives a window length that is not a multiple of `context` (windows would span
  /// documents).
  Windows(ShardSet shards, std::int64_t context, std::int64_t vocab_size)
      : shards_(std::move(shards)), context_(context) {
    if (context_ < 2)
      throw Error("a window of " + std::to_string(context_) +
                  " tokens predicts nothing: the context must be at least 2 tokens.");
    std::int64_t tokens = 0;
    for (const TokenShard& shard : shards_.shards()) {
      check_description(shard);
      check_tokens(shard, vocab_size);
      tokens += shard.size();
      ends_.push_back(count() + shard.size() / context_);
    }
    if (count() == 0)
      throw Error(excerpt(shards_.name()) + " holds " + std::to_string(tokens) +
                  " tokens, not one window of " + std::to_string(context_) + "; prepare a larger corpus.");
  }

  /// The shards.
  const ShardSet& shards() const { return shards_; }

  /// T, the tokens in a window.
  std::int64_t context() const { return context_; }

  /// Number of windows, at least 1.
  std::int64_t count() const { return ends_.empty() ? 0 : ends_.back(); }

  /// Writes the T tokens of window `index`, 0 <= index < count(), to `out`.
  void window(std::int64_t index, std::int32_t* out) const {
    const auto shard = std::upper_bound(ends_.begin(), ends_.end(), index) - ends_.begin();
    const std::int64_t first = shard == 0 ? 0 : ends_[static_cast<std::size_t>(shard - 1)];
    shards_.shards()[static_cast<std::size_t>(shard)].copy((index - first) * context_, context_, out);
  }

 private:
  void check_description(const TokenShard& shard) const {
    const auto info = read_shard_info(shard.path());
    if (!info) return;
    const std::string name = excerpt(shard.path().native());
    if (info->tokens != 0 && info->tokens != shard.size())
      throw Error(excerpt(shard_info_path(shard.path()).native()) + " describes another shard: it says " +
                  std::to_string(info->tokens) + " tokens, " + name + " holds " +
                  std::to_string(shard.size()) + "; prepare the corpus again.");
    if (info->context % context_ != 0)
      throw Error(name + " was cut into windows of " + std::to_string(info->context) +
                  " tokens, which is not a multiple of the model's context of " + std::to_string(context_) +
                  "; prepare the corpus with --context " + std::to_string(context_) + ".");
  }

  static void check_tokens(const TokenShard& shard, std::int64_t vocab_size) {
    const bool own_is_smaller = shard.vocab_size() > 0 && shard.vocab_size() < vocab_size;
    if (own_is_smaller) vocab_size = shard.vocab_size();
    if (shard.max_token() < vocab_size) return;
    std::int64_t position = 0;
    const auto beyond = [&](std::int32_t token) { return token < 0 || token >= vocab_size; };
    while (!beyond(shard[position])) ++position;
    throw Error(excerpt(shard.path().native()) + ", token " + std::to_string(position) + ": id " +
                std::to_string(static_cast<std::uint32_t>(shard[position])) + " is beyond " +
                (own_is_smaller ? "its" : "the model's") + " vocabulary of " + std::to_string(vocab_size) +
                (own_is_smaller
                     ? "; the file is damaged, or another vocabulary was given for it."
                     : "; prepare the corpus with the model's tokenizer, or use a model with a larger "
                       "vocabulary."));
  }

  ShardSet shards_;
  std::int64_t context_;
  std::vector<std::int64_t> ends_;  // end of each shard, in windows
};

/// The order in which training visits windows: every window once per epoch, in file order or in a new random
/// order for each epoch. It is a pure function of the position, so that a run can be resumed from its
/// position alone and no list of windows is stored.
class WindowOrder {
 public:
  /// Over `count` >= 1 windows; `seed` chooses the orders when `shuffle` is set.
  WindowOrder(std::int64_t count, std::uint64_t seed, bool shuffle)
      : count_(count), seed_(seed), shuffle_(shuffle) {
    if (count_ < 1) throw Error("there are no windows to put in order.");
  }

  /// The window at `position`, which counts visited windows since training began; epoch = position / count.
  std::int64_t operator()(std::int64_t position) const {
    const std::int64_t index = position % count_;
    if (!shuffle_ || count_ == 1) return index;
    const std::uint64_t key = splitmix64(seed_ + splitmix64(static_cast<std::uint64_t>(position / count_)));
    // A permutation of 2^(2 half) >= count numbers, applied until the result is below count, is a permutation
    // of [0, count).
    auto image = static_cast<std::uint64_t>(index);
    do {
      image = permute(image, key);
    } while (image >= static_cast<std::uint64_t>(count_));
    return static_cast<std::int64_t>(image);
  }

 private:
  // A Feistel network with two halves of equal width: a bijection whatever the round function is.
  std::uint64_t permute(std::uint64_t x, std::uint64_t key) const {
    const auto half = (static_cast<unsigned>(std::bit_width(static_cast<std::uint64_t>(count_ - 1))) + 1) / 2;
    const std::uint64_t mask = (std::uint64_t{1} << half) - 1;
    std::uint64_t left = x >> half, right = x & mask;
    for (std::uint64_t round = 0; round < 6; ++round)
      left = std::exchange(right, left ^ (splitmix64(key + splitmix64((round << 32) ^ right)) & mask));
    return (left << half) | right;
  }

  std::int64_t count_;
  std::uint64_t seed_;
  bool shuffle_;
};

}  // namespace lnfree
