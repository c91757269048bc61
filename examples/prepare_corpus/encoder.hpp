#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <optional>
#include <string>
#include <vector>

#include <lnfree/core/error.hpp>
#include <lnfree/data/corpus.hpp>
#include <lnfree/data/tokenizer.hpp>

#include "split.hpp"

namespace prepare_corpus {

/// Encodes documents on all cores, some at a time, and writes them in order.
class Encoder {
 public:
  /// `end_of_text`, if given, is written after each document.
  Encoder(const lnfree::Tokenizer& tokenizer, std::optional<std::int32_t> end_of_text, Split& train,
          Split& held_out)
      : tokenizer_(tokenizer), end_of_text_(end_of_text), train_(train), held_out_(held_out) {}

  void add(const lnfree::Document& document) {
    if (split(document.held_out).full()) return;
    batch_.push_back({document.name, std::string(document.content), document.held_out, {}});
    batch_bytes_ += document.content.size();
    if (batch_bytes_ >= 4'000'000) flush();
  }

  void flush() {
    std::exception_ptr failure;
#pragma omp parallel for schedule(dynamic)
    for (std::size_t i = 0; i < batch_.size(); ++i) {
      try {
        encode(batch_[i]);
      } catch (...) {
#pragma omp critical
        if (!failure) failure = std::current_exception();
      }
    }
    if (failure) std::rethrow_exception(failure);
    for (const auto& item : batch_) split(item.held_out).add(item.content.size(), item.ids);
    batch_.clear();
    batch_bytes_ = 0;
  }

  /// Whether every added document has been written.
  bool is_empty() const { return batch_.empty(); }

 private:
  struct Item {
    std::string name, content;
    bool held_out;
    std::vector<std::int32_t> ids;
  };

  Split& split(bool held_out) { return held_out ? held_out_ : train_; }

  void encode(Item& item) const {
    item.ids = tokenizer_.encode(item.content);
    if (tokenizer_.is_lossless() && tokenizer_.decode(item.ids) != item.content)
      throw lnfree::Error(item.name +
                          " does not come back exactly from its tokens; the tokenizer changes text "
                          "(normalization, added or removed spaces), use another or let one be trained.");
    if (end_of_text_) item.ids.push_back(*end_of_text_);
  }

  const lnfree::Tokenizer& tokenizer_;
  std::optional<std::int32_t> end_of_text_;
  Split& train_;
  Split& held_out_;
  std::vector<Item> batch_;
  std::size_t batch_bytes_ = 0;
};

}  // namespace prepare_corpus
