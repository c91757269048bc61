#pragma once

#include <bit>
#include <cstdint>
#include <string>
#include <utility>

#include <lnfree/core/error.hpp>
#include <lnfree/core/excerpt.hpp>
#include <lnfree/data/token_shard.hpp>

namespace lnfree {

/// A token shard seen as consecutive windows of T tokens that do not overlap; a short last one is dropped.
class Windows {
 public:
  /// Takes the shard and checks it against the model, reading it once. Throws Error if a token id is beyond
  /// the vocabulary, if there is no whole window, or if the description beside the shard says that it belongs
  /// to another file or was cut into windows that are no multiple of `context` (windows would run across
  /// documents).
  Windows(TokenShard shard, std::int64_t context, std::int64_t vocab_size)
      : shard_(std::move(shard)), context_(context) {
    const std::string name = excerpt(shard_.path().native());
    if (context_ < 2)
      throw Error("a window of " + std::to_string(context_) +
                  " tokens predicts nothing: the context must be at least 2 tokens.");
    if (const auto info = read_shard_info(shard_.path())) {
      const std::string info_name = excerpt(shard_info_path(shard_.path()).native());
      if (info->tokens != 0 && info->tokens != shard_.size())
        throw Error(info_name + " describes another shard: it says " + std::to_string(info->tokens) +
                    " tokens, " + name + " holds " + std::to_string(shard_.size()) +
                    "; prepare the corpus again.");
      if (info->context % context_ != 0)
        throw Error(name + " was cut into windows of " + std::to_string(info->context) +
                    " tokens, which is no multiple of the model's context of " + std::to_string(context_) +
                    "; prepare the corpus with --context " + std::to_string(context_) + ".");
    }
    if (shard_.size() < context_)
      throw Error(name + " holds " + std::to_string(shard_.size()) + " tokens, not one window of " +
                  std::to_string(context_) + "; prepare a larger corpus.");
    if (shard_.max_token() >= vocab_size) {
      std::int64_t position = 0;
      const auto beyond = [&](std::int32_t token) { return token < 0 || token >= vocab_size; };
      while (!beyond(shard_[position])) ++position;
      throw Error(name + ", token " + std::to_string(position) + ": id " +
                  std::to_string(static_cast<std::uint32_t>(shard_[position])) +
                  " is beyond the model's vocabulary of " + std::to_string(vocab_size) +
                  "; use the shard and the model of one tokenizer.");
    }
  }

  /// The shard that is cut into windows.
  const TokenShard& shard() const { return shard_; }

  /// T, the tokens in a window.
  std::int64_t context() const { return context_; }

  /// Number of windows, at least 1.
  std::int64_t count() const { return shard_.size() / context_; }

  /// Writes the T tokens of window `index`, 0 <= index < count(), to `out`.
  void window(std::int64_t index, std::int32_t* out) const { shard_.copy(index * context_, context_, out); }

 private:
  TokenShard shard_;
  std::int64_t context_;
};

/// The order in which training visits windows: every window once per epoch, in file order or in an order of
/// its own for each epoch. A pure function of the position, so that a run is resumed from its position alone
/// and no list of windows is held.
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
    const std::uint64_t key = mix(seed_ + mix(static_cast<std::uint64_t>(position / count_)));
    // A permutation of 2^(2 half) >= count numbers, followed until it is back below count: a permutation of
    // those.
    auto image = static_cast<std::uint64_t>(index);
    do {
      image = permute(image, key);
    } while (image >= static_cast<std::uint64_t>(count_));
    return static_cast<std::int64_t>(image);
  }

 private:
  // The finalizer of splitmix64 (Steele, Lea and Flood 2014) after its additive step.
  static std::uint64_t mix(std::uint64_t x) {
    x += 0x9e3779b97f4a7c15;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return x ^ (x >> 31);
  }

  // A Feistel network with two halves of equal width: a bijection whatever the round function is.
  std::uint64_t permute(std::uint64_t x, std::uint64_t key) const {
    const auto half = (static_cast<unsigned>(std::bit_width(static_cast<std::uint64_t>(count_ - 1))) + 1) / 2;
    const std::uint64_t mask = (std::uint64_t{1} << half) - 1;
    std::uint64_t left = x >> half, right = x & mask;
    for (std::uint64_t round = 0; round < 6; ++round)
      left = std::exchange(right, left ^ (mix(key + mix((round << 32) ^ right)) & mask));
    return (left << half) | right;
  }

  std::int64_t count_;
  std::uint64_t seed_;
  bool shuffle_;
};

}  // namespace lnfree
