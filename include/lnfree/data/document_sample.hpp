#pragma once

#include <cstdint>
#include <iterator>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <lnfree/data/corpus.hpp>

namespace lnfree {

/// A random sample of documents within a budget of bytes: as many as fit, in the order of their hashes, so
/// that it does not depend on their order. It holds at most the budget and one document in memory.
class DocumentSample {
 public:
  /// A sample of at most `budget_bytes` bytes.
  explicit DocumentSample(std::int64_t budget_bytes) : budget_bytes_(budget_bytes) {}

  /// Bytes in the sample.
  std::int64_t bytes() const { return bytes_; }

  /// Considers a document. The one with the smallest hash is in the sample even if it alone exceeds the
  /// budget.
  void add(const Document& document) {
    const Key key(document.hash.high, document.hash.low);
    if (full_ && key >= limit_) return;
    bytes_ += static_cast<std::int64_t>(document.content.size());
    documents_.emplace(key, document.content);
    while (bytes_ > budget_bytes_ && documents_.size() > 1) {
      const auto last = std::prev(documents_.end());
      bytes_ -= static_cast<std::int64_t>(last->second.size());
      limit_ = last->first;
      full_ = true;
      documents_.erase(last);
    }
  }

  /// The documents, in the order of their hashes. Empties the sample.
  std::vector<std::string> take() {
    std::vector<std::string> documents;
    for (auto& [key, content] : documents_) documents.push_back(std::move(content));
    documents_.clear();
    return documents;
  }

 private:
  using Key = std::pair<std::uint64_t, std::uint64_t>;

  std::int64_t budget_bytes_;
  std::int64_t bytes_ = 0;
  bool full_ = false;  // a document was dropped, so no hash from limit_ on can be in the sample
  Key limit_;
  std::map<Key, std::string> documents_;
};

}  // namespace lnfree
