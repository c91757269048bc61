#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace lnfree {

/// A text that a model for generation continues, and where its keys and values are cached.
struct CachedText {
  int place = 0;  ///< The place of its keys and values in the cache, from 0 to the model's max_batch() - 1.
  std::span<const std::int32_t> tokens;  ///< The whole text.
};

/// The tokens of a text that a pass computes: those from `first` on. The keys and values of the earlier ones
/// are cached.
struct TextPart {
  int place = 0;   ///< The place of its keys and values in the cache.
  int length = 0;  ///< Tokens of the text within the context.
  int first = 0;   ///< The first token to compute.
  /// Rows of a matrix with a row for each computed token.
  constexpr int rows() const { return length - first; }
};

/// What one place of the key/value cache holds: the tokens of a text whose keys and values are cached.
class KeyValueCacheState {
 public:
  /// Where the window that the model reads of a text of `tokens` tokens begins. Up to `context` tokens it is
  /// the whole text. After that half a context is dropped at a time, so that the beginning rarely moves.
  static std::size_t window_begin(std::size_t tokens, std::size_t context) {
    if (tokens <= context) return 0;
    const std::size_t surplus = tokens - context, half = std::max<std::size_t>(1, context / 2);
    return (surplus + half - 1) / half * half;
  }

  /// How many of the first tokens of `window` are cached for weights of this version; never all, since the
  /// last one's logits have to be computed.
  std::size_t cached(std::span<const std::int32_t> window, std::uint64_t version) const {
    if (version_ != version) return 0;
    const auto [read, asked] =
        std::mismatch(tokens_.begin(), tokens_.end(), window.begin(), window.end() - 1);
    return static_cast<std::size_t>(read - tokens_.begin());
  }

  /// Records that `window` has been read with weights of this version.
  void remember(std::span<const std::int32_t> window, std::uint64_t version) {
    tokens_.assign(window.begin(), window.end());
    version_ = version;
  }
  /// Clears the record.
  void forget() { tokens_.clear(); }

 private:
  std::vector<std::int32_t> tokens_;
  std::uint64_t version_ = 0;  // of the weights it was read with
};

}  // namespace lnfree
