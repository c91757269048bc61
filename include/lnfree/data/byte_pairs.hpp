#pragma once

#include <xxhash.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace lnfree {

/// Byte-pair encoding of one word at a time: its bytes become tokens, and then the adjacent pair that comes
/// first in the list of merges is merged, repeatedly.
class BytePairs {
 public:
  /// Adjacent tokens `left` and `right` become `token`.
  struct Merge {
    std::int32_t left;   ///< The first one of the pair.
    std::int32_t right;  ///< The second one.
    std::int32_t token;  ///< The merged token.
  };

  /// A thread's memory for encoding, with a cache of words; threads must not share it.
  class Memory {
   private:
    friend class BytePairs;
    static constexpr std::size_t max_bytes = 32, max_tokens = 7, words = 1 << 15;

    struct Word {
      std::array<char, max_bytes> text;
      std::array<std::int32_t, max_tokens> tokens;
      std::uint8_t bytes = 0, count = 0;
    };
    struct Symbol {
      std::int32_t token;
      std::int32_t previous, next;  // symbols, -1 at an end
    };
    struct Candidate {
      std::uint32_t rank;
      std::int32_t symbol;  // the left one
      std::int32_t token;
      bool operator<(const Candidate& other) const {  // for a heap with the first merge on top
        return rank != other.rank ? rank > other.rank : symbol > other.symbol;
      }
    };

    std::vector<Word> known = std::vector<Word>(words);  // indexed by the hash of a word
    std::vector<Symbol> symbols;
    std::vector<Candidate> heap;
  };

  /// A hash of words for maps that are searched by views.
  struct Hash {
    /// Allows lookups by view without making strings.
    using is_transparent = void;
    /// The hash of a word.
    std::size_t operator()(std::string_view word) const { return XXH3_64bits(word.data(), word.size()); }
  };
  /// Words that are one token, whatever the merges.
  using WholeWords = std::unordered_map<std::string, std::int32_t, Hash, std::equal_to<>>;

  /// `bytes` are the tokens of single bytes; earlier merges come first. Of two merges of the same pair the
  /// later one is used, as in Hugging Face's tokenizers.
  BytePairs(const std::array<std::int32_t, 256>& bytes, std::span<const Merge> merges, WholeWords whole_words)
      : bytes_(bytes), whole_words_(std::move(whole_words)) {
    const std::size_t slots = std::bit_ceil(2 * merges.size() + 2);
    table_.resize(slots);
    shift_ = 64 - std::countr_zero(slots);
    for (std::size_t rank = 0; rank < merges.size(); ++rank) {
      const std::uint64_t pair = key(merges[rank].left, merges[rank].right);
      std::size_t at = slot(pair);
      while (table_[at].token >= 0 && table_[at].pair != pair) at = (at + 1) & (table_.size() - 1);
      table_[at] = {pair, static_cast<std::uint32_t>(rank), merges[rank].token};
    }
  }

  /// Appends the tokens of a word, which must have fewer than 2^31 bytes.
  void encode(std::string_view word, Memory& memory, std::vector<std::int32_t>& tokens) const {
    if (word.size() > Memory::max_bytes) return merge(word, memory, tokens);
    auto& known = memory.known[XXH3_64bits(word.data(), word.size()) % Memory::words];
    if (known.bytes != word.size() || std::memcmp(known.text.data(), word.data(), word.size()) != 0) {
      const std::size_t begin = tokens.size();
      merge(word, memory, tokens);
      const std::size_t count = tokens.size() - begin;
      if (count > Memory::max_tokens) return;
      std::memcpy(known.text.data(), word.data(), word.size());
      std::copy_n(tokens.data() + begin, count, known.tokens.data());
      known.bytes = static_cast<std::uint8_t>(word.size());
      known.count = static_cast<std::uint8_t>(count);
      return;
    }
    tokens.insert(tokens.end(), known.tokens.data(), known.tokens.data() + known.count);
  }

 private:
  struct Slot {
    std::uint64_t pair = 0;
    std::uint32_t rank = 0;
    std::int32_t token = -1;
  };
  static std::uint64_t key(std::int32_t left, std::int32_t right) {
    return std::uint64_t{static_cast<std::uint32_t>(left)} << 32 | static_cast<std::uint32_t>(right);
  }

  std::size_t slot(std::uint64_t pair) const {
    return static_cast<std::size_t>((pair ^ pair >> 29) * 0x9e3779b97f4a7c15 >> shift_);
  }

  // The merge of a pair, null if there is none.
  const Slot* find(std::int32_t left, std::int32_t right) const {
    const std::uint64_t pair = key(left, right);
    for (std::size_t at = slot(pair); table_[at].token >= 0; at = (at + 1) & (table_.size() - 1))
      if (table_[at].pair == pair) return &table_[at];
    return nullptr;
  }

  void merge(std::string_view word, Memory& memory, std::vector<std::int32_t>& tokens) const {
    if (!whole_words_.empty())
      if (const auto whole = whole_words_.find(word); whole != whole_words_.end())
        return tokens.push_back(whole->second);
    auto& symbols = memory.symbols;
    auto& heap = memory.heap;
    const auto size = static_cast<std::int32_t>(word.size());
    symbols.resize(word.size());
    heap.clear();
    for (std::int32_t i = 0; i < size; ++i) {
      const auto at = static_cast<std::size_t>(i);
      symbols[at] = {bytes_[static_cast<unsigned char>(word[at])], i - 1, i + 1 < size ? i + 1 : -1};
      if (i == 0) continue;
      if (const Slot* found = find(symbols[at - 1].token, symbols[at].token))
        heap.push_back({found->rank, i - 1, found->token});
    }
    std::make_heap(heap.begin(), heap.end());
    const auto consider = [&](std::int32_t left, std::int32_t right) {
      if (left < 0 || right < 0) return;
      const Slot* found =
          find(symbols[static_cast<std::size_t>(left)].token, symbols[static_cast<std::size_t>(right)].token);
      if (!found) return;
      heap.push_back({found->rank, left, found->token});
      std::push_heap(heap.begin(), heap.end());
    };
    while (!heap.empty()) {
      std::pop_heap(heap.begin(), heap.end());
      const auto candidate = heap.back();
      heap.pop_back();
      auto& left = symbols[static_cast<std::size_t>(candidate.symbol)];
      if (left.token < 0 || left.next < 0) continue;  // merged, or its neighbor has changed
      auto& right = symbols[static_cast<std::size_t>(left.next)];
      const Slot* found = find(left.token, right.token);
      if (!found || found->token != candidate.token) continue;  // one of the two has changed
      left.token = candidate.token;
      left.next = right.next;
      right.token = -1;
      if (left.next >= 0) symbols[static_cast<std::size_t>(left.next)].previous = candidate.symbol;
      consider(left.previous, candidate.symbol);
      consider(candidate.symbol, left.next);
    }
    for (std::int32_t i = size > 0 ? 0 : -1; i >= 0; i = symbols[static_cast<std::size_t>(i)].next)
      tokens.push_back(symbols[static_cast<std::size_t>(i)].token);
  }

  std::array<std::int32_t, 256> bytes_{};
  std::vector<Slot> table_;  // open addressing, never full
  int shift_ = 63;
  WholeWords whole_words_;
};

}  // namespace lnfree
