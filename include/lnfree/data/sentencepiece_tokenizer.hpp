#pragma once

#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include <lnfree/core/error.hpp>
#include <lnfree/core/excerpt.hpp>
#include <lnfree/core/utf8.hpp>

namespace lnfree {

/// A byte-pair-encoding tokenizer (SentencePiece) that restores every text exactly: what no piece covers is
/// encoded as byte pieces, and nothing is normalized. The model file is in SentencePiece's own format; other
/// programs that read it get the same tokens for valid UTF-8 without U+2581.
///
/// Pieces are runs of letters, digits or other characters, with at most one space in front, or runs of spaces
/// (indentation), similar to GPT-2's tokenizer.
class SentencePieceTokenizer {
 public:
  /// Learns `vocab_size` pieces from whole documents in UTF-8, and returns the content of a model file; the
  /// same documents give the same model. With `end_of_text`, one of the pieces is that token, which never
  /// results from text. Throws Error if the documents hold too little text for that vocabulary, or if the
  /// vocabulary is too small for the bytes and characters.
  static std::string train(std::vector<std::string> documents, int vocab_size,
                           const std::string& end_of_text = "") {
    std::size_t bytes = 0;
    for (const auto& document : documents) bytes += document.size();
    if (bytes == 0) throw Error("a tokenizer cannot be trained: there is no text.");
    Documents sample(std::move(documents));
    std::unordered_map<std::string, std::string> options = {
        {"model_type", "bpe"},
        {"vocab_size", std::to_string(vocab_size)},
        {"byte_fallback", "true"},
        {"normalization_rule_name", "identity"},
        {"add_dummy_prefix", "false"},
        {"remove_extra_whitespaces", "false"},
        {"allow_whitespace_only_pieces", "true"},
        {"character_coverage", "0.9995"},
        // Documents include their line ends; a longer "sentence" than this would be skipped.
        {"max_sentence_length", "1000000000"},
        {"bos_id", "-1"},
        {"eos_id", "-1"},
        {"num_threads", "1"},
        {"minloglevel", "2"},
    };
    if (!end_of_text.empty()) {
      options["eos_id"] = "1";
      options["eos_piece"] = end_of_text;
    }
    std::string model;
    const auto status = sentencepiece::SentencePieceTrainer::Train(options, &sample, &model);
    if (!status.ok()) throw Error(training_error(status.ToString(), vocab_size, bytes));
    return model;
  }

  /// Reads the content of a model file, SentencePiece's own; `name` is its name in messages. Throws Error if
  /// it is not a SentencePiece model, or has no byte pieces.
  SentencePieceTokenizer(std::string_view model, const std::string& name)
      : processor_(std::make_unique<sentencepiece::SentencePieceProcessor>()) {
    if (model.empty() || !processor_->LoadFromSerializedProto(model).ok() || processor_->GetPieceSize() == 0)
      throw Error(name + " is not a SentencePiece model.");
    byte_ids_.fill(-1);
    for (int id = 0; id < processor_->GetPieceSize(); ++id) {
      pieces_.push_back(text_of(id));
      if (processor_->IsByte(id)) byte_ids_[static_cast<unsigned char>(pieces_.back()[0])] = id;
    }
    for (const auto id : byte_ids_)
      if (id < 0)
        throw Error(name +
                    " has no piece for every byte, so not every text could be given back; train it with " +
                    "byte fallback.");
  }

  /// The id of a piece by its name, or nothing if there is none.
  std::optional<std::int32_t> find(const std::string& piece) const {
    const int id = processor_->PieceToId(piece);
    return processor_->IsUnknown(id) ? std::nullopt : std::optional<std::int32_t>(id);
  }

  /// Whether decode(encode(text)) == text. A model that normalizes text would break this, but its file does
  /// not state that plainly.
  static constexpr bool is_lossless() { return true; }

  /// Number of ids; ids run from 0 to vocab_size() - 1.
  int vocab_size() const { return static_cast<int>(pieces_.size()); }

  /// The ids of a text: any bytes. Safe to call from several threads.
  std::vector<std::int32_t> encode(std::string_view text) const {
    std::vector<std::int32_t> ids;
    std::size_t begin = 0, position = 0;
    while (position < text.size()) {
      const std::size_t length = utf8_length(text, position);
      // SentencePiece reads its space mark as a space and replaces invalid UTF-8, so both are encoded as
      // bytes.
      if (length == 0 || text.substr(position, length) == space_mark) {
        const std::size_t end = position + (length == 0 ? 1 : length);
        encode_plain(text.substr(begin, position - begin), ids);
        for (; position < end; ++position)
          ids.push_back(byte_ids_[static_cast<unsigned char>(text[position])]);
        begin = end;
      } else {
        position += length;
      }
    }
    encode_plain(text.substr(begin), ids);
    return ids;
  }

  /// The text of ids, the inverse of encode(). The unknown piece, which encode() never gives, becomes U+FFFD.
  /// Throws Error for an id outside the vocabulary.
  std::string decode(std::span<const std::int32_t> ids) const {
    std::string text;
    for (const auto id : ids) {
      if (id < 0 || id >= vocab_size())
        throw Error("token id " + std::to_string(id) + " is not in the tokenizer's vocabulary of " +
                    std::to_string(vocab_size()) + ".");
      text += pieces_[static_cast<std::size_t>(id)];
    }
    return text;
  }

 private:
  static constexpr std::string_view space_mark = "\xE2\x96\x81";  // U+2581

  // Feeds whole documents to SentencePiece's trainer, except for two cases that it cannot handle. It numbers
  // the characters of a word (spaces and what follows up to the next space) in 15 bits and crashes beyond, so
  // longer words are cut. And it skips a document that contains its unknown mark, which is never part of a
  // piece, so documents are cut at that mark.
  class Documents : public sentencepiece::SentenceIterator {
   public:
    explicit Documents(std::vector<std::string> documents) : documents_(std::move(documents)) { cut(); }
    bool done() const override { return next_ == documents_.size(); }
    void Next() override {
      cut();
      if (part_.empty()) {
        documents_[next_++] = std::string();  // SentencePiece keeps its own copy
        position_ = 0;
        cut();
      }
    }
    const std::string& value() const override { return part_; }
    sentencepiece::util::Status status() const override { return {}; }

   private:
    static constexpr std::string_view unknown_mark = "\xE2\x96\x85";  // U+2585
    static constexpr std::size_t max_word_bytes = 32'000;

    // Takes the next part of the current document; an empty one at its end.
    void cut() {
      part_.clear();
      if (done()) return;
      const std::string_view text = documents_[next_];
      while (text.substr(position_, unknown_mark.size()) == unknown_mark) position_ += unknown_mark.size();
      std::size_t end = position_;
      for (std::size_t word = position_; end < text.size();) {
        const std::size_t length = std::max<std::size_t>(utf8_length(text, end), 1);
        if (text[end] == ' ' && end > position_ && text[end - 1] != ' ') word = end;
        if (end + length - word > max_word_bytes || text.substr(end, length) == unknown_mark) break;
        end += length;
      }
      part_ = text.substr(position_, end - position_);
      position_ = end;
    }

    std::vector<std::string> documents_;
    std::size_t next_ = 0, position_ = 0;
    std::string part_;  // of the document `next_`, before `position_`
  };

  // The text of an id.
  std::string text_of(int id) const {
    const std::string& piece = processor_->IdToPiece(id);
    if (processor_->IsControl(id)) return {};
    if (processor_->IsUnknown(id)) return "\xEF\xBF\xBD";
    if (processor_->IsByte(id)) {  // named <0x00> to <0xFF>
      if (piece.size() != 6)
        throw Error("the tokenizer has a malformed byte piece '" + excerpt(piece) + "'.");
      unsigned char value = 0;
      std::from_chars(piece.data() + 3, piece.data() + 5, value, 16);
      return std::string(1, static_cast<char>(value));
    }
    std::string text;
    std::size_t begin = 0;
    for (std::size_t at; (at = piece.find(space_mark, begin)) != std::string::npos;
         begin = at + space_mark.size())
      text.append(piece, begin, at - begin).push_back(' ');
    return text.append(piece, begin);
  }

  // Valid UTF-8 without U+2581.
  void encode_plain(std::string_view text, std::vector<std::int32_t>& ids) const {
    if (text.empty()) return;
    std::vector<int> part;
    const auto status = processor_->Encode(text, &part);
    if (!status.ok()) throw Error("SentencePiece cannot encode a text: " + excerpt(status.ToString()) + ".");
    ids.insert(ids.end(), part.begin(), part.end());
  }

  // The number after `mark` in SentencePiece's message, 0 if there is none.
  static int number_after(const std::string& message, std::string_view mark) {
    const std::size_t at = message.find(mark);
    int number = 0;
    if (at != std::string::npos)
      std::from_chars(message.data() + at + mark.size(), message.data() + message.size(), number);
    return number;
  }

  static std::string training_error(const std::string& message, int vocab_size, std::size_t bytes) {
    const std::string start = "a tokenizer with a vocabulary of " + std::to_string(vocab_size) +
                              " cannot be trained on " + std::to_string(bytes) + " bytes of text: ";
    if (const int max_pieces = number_after(message, "value <= "))
      return start + "they give at most " + std::to_string(max_pieces) +
             " pieces; take more text or a smaller vocabulary.";
    if (const int least = number_after(message, std::to_string(vocab_size) + " vs "))
      return start + "its bytes and characters alone need " + std::to_string(least) +
             "; take a larger vocabulary.";
    if (message.find("sentences_.empty()") != std::string::npos)
      return start + "they hold nothing that can become a piece; take other text.";
    return start + excerpt(message);
  }

  std::unique_ptr<sentencepiece::SentencePieceProcessor> processor_;
  std::vector<std::string> pieces_;
  std::array<std::int32_t, 256> byte_ids_{};
};

}  // namespace lnfree
