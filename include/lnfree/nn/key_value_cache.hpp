#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <lnfree/core/error.hpp>

namespace lnfree {

/// A text that a model for generation continues, and its slot in the key/value cache.
struct CachedText {
  int slot = 0;  ///< The slot of its keys and values, from 0 to the model's max_batch() - 1.
  std::span<const std::int32_t> tokens;  ///< The whole text.
};

/// The tokens of a text that a pass computes. The keys and values of the earlier ones are cached.
struct TextPart {
  int slot = 0;                          ///< The slot of its keys and values in the cache.
  std::span<const std::int32_t> window;  ///< The end of the text that the model reads.
  int first = 0;                         ///< The first token of the window to compute.
  /// Tokens of the window.
  constexpr int length() const { return static_cast<int>(window.size()); }
  /// The tokens to compute.
  constexpr std::span<const std::int32_t> tokens() const {
    return window.subspan(static_cast<std::size_t>(first));
  }
  /// Rows of a matrix with a row for each computed token.
  constexpr int rows() const { return length() - first; }
};

/// The record of a key/value cache: the tokens whose keys and values each slot holds. The keys and values
/// themselves are in the attention of each layer.
class KeyValueCache {
 public:
  /// No slots.
  KeyValueCache() = default;
  /// Empty slots for that many texts, with windows of up to `context` tokens.
  KeyValueCache(int slots, int context)
      : slots_(static_cast<std::size_t>(slots)), context_(static_cast<std::size_t>(context)) {}

  /// The part of each text that has to be computed with weights of this version. The last token is always
  /// computed, since its logits are wanted. Throws Error for an empty text, for a slot that does not exist,
  /// and for two texts in one slot.
  std::vector<TextPart> parts_of(std::span<const CachedText> texts, std::uint64_t version) const {
    std::vector<TextPart> parts;
    for (const CachedText& text : texts) {
      if (text.tokens.empty()) throw Error("next_logits_of needs at least one token of each text");
      const auto slot = static_cast<std::size_t>(text.slot);
      if (text.slot < 0 || slot >= slots_.size()) {
        throw Error("there is no slot " + std::to_string(text.slot) + " for a text in a model that keeps " +
                    std::to_string(slots_.size()));
      }
      for (const TextPart& other : parts) {
        if (other.slot == text.slot)
          throw Error("two texts cannot be kept in one slot, " + std::to_string(text.slot));
      }
      const auto window = text.tokens.subspan(window_begin(text.tokens.size()));
      parts.push_back({text.slot, window, slots_[slot].version == version ? cached(slot, window) : 0});
    }
    return parts;
  }

  /// Records that the window of `part` has been read with weights of this version.
  void remember(const TextPart& part, std::uint64_t version) {
    Slot& slot = slots_.at(static_cast<std::size_t>(part.slot));
    slot.tokens.assign(part.window.begin(), part.window.end());
    slot.version = version;
  }

  /// Empties all slots.
  void forget() {
    for (Slot& slot : slots_) slot.tokens.clear();
  }
  /// Empties one slot.
  void forget(int slot) { slots_.at(static_cast<std::size_t>(slot)).tokens.clear(); }

 private:
  struct Slot {
    std::vector<std::int32_t> tokens;
    std::uint64_t version = 0;  // of the weights they were read with
  };

  /// Where the window of a text of `tokens` tokens begins. Up to the context it is the whole text. After that
  /// half a context is dropped at a time, so that the beginning rarely moves.
  std::size_t window_begin(std::size_t tokens) const {
    if (tokens <= context_) return 0;
    const std::size_t surplus = tokens - context_, half = std::max<std::size_t>(1, context_ / 2);
    return (surplus + half - 1) / half * half;
  }

  /// How many of the first tokens of `window`, its last one excluded, the slot holds.
  int cached(std::size_t slot, std::span<const std::int32_t> window) const {
    const std::vector<std::int32_t>& tokens = slots_[slot].tokens;
    const auto differs = std::mismatch(tokens.begin(), tokens.end(), window.begin(), window.end() - 1).first;
    return static_cast<int>(differs - tokens.begin());
  }

  std::vector<Slot> slots_;
  std::size_t context_ = 0;
};

}  // namespace lnfree
