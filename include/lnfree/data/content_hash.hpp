#pragma once

#include <xxhash.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

namespace lnfree {

/// The 128-bit XXH3 hash of a document's content, which identifies it.
struct ContentHash {
  /// Both halves of the 128-bit hash.
  std::uint64_t low = 0, high = 0;

  bool operator==(const ContentHash&) const = default;

  /// The hash of a document's bytes.
  static ContentHash of(std::string_view content) {
    const auto hash = XXH3_128bits(content.data(), content.size());
    return {hash.low64, hash.high64};
  }

  /// A number in [0, 1) that depends only on the content and the seed.
  double uniform(std::uint64_t seed) const {
    return static_cast<double>(XXH3_64bits_withSeed(this, sizeof *this, seed) >> 11) * 0x1p-53;
  }
};

/// The hashes of a corpus's documents, 16 bytes each.
class ContentHashSet {
 public:
  /// Inserts a hash; returns whether it is new.
  bool insert(ContentHash hash) {
    if (hash == ContentHash{}) return !std::exchange(has_zero_, true);  // zero marks a free slot
    if (4 * (count_ + 1) > 3 * table_.size()) grow();
    ContentHash& slot = find(hash);
    if (slot == hash) return false;
    slot = hash;
    ++count_;
    return true;
  }

 private:
  // The slot of the hash, or the free slot where it belongs.
  ContentHash& find(const ContentHash& hash) {
    std::size_t at = hash.low & (table_.size() - 1);
    while (table_[at] != ContentHash{} && table_[at] != hash) at = (at + 1) & (table_.size() - 1);
    return table_[at];
  }

  void grow() {
    std::vector<ContentHash> smaller(std::max<std::size_t>(2 * table_.size(), 1024));
    smaller.swap(table_);
    for (const ContentHash& hash : smaller)
      if (hash != ContentHash{}) find(hash) = hash;
  }

  std::vector<ContentHash> table_;  // open addressing, at most three quarters full
  std::size_t count_ = 0;
  bool has_zero_ = false;
};

}  // namespace lnfree
