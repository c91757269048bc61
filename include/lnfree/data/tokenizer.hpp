#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include <lnfree/core/atomic_file.hpp>
#include <lnfree/core/error.hpp>
#include <lnfree/core/excerpt.hpp>
#include <lnfree/core/files.hpp>
#include <lnfree/core/fingerprint.hpp>
#ifdef LNFREE_WITH_PCRE2
#include <lnfree/data/byte_level_tokenizer.hpp>
#endif
#include <lnfree/data/sentencepiece_tokenizer.hpp>

namespace lnfree {

/// A tokenizer read from a file: SentencePiece's tokenizer.model or, if built with PCRE2, a Hugging Face
/// tokenizer.json with byte-level BPE. Copies share their data.
class Tokenizer {
 public:
  /// Learns `vocab_size` pieces from whole documents in UTF-8; the same documents give the same tokenizer, a
  /// tokenizer.model. With `end_of_text`, one of them is that token, which never results from text. Throws
  /// Error if the documents hold too little text for that vocabulary, or if the vocabulary is too small for
  /// the bytes and characters.
  static Tokenizer train(std::vector<std::string> documents, int vocab_size,
                         const std::string& end_of_text = "") {
    std::string content = SentencePieceTokenizer::train(std::move(documents), vocab_size, end_of_text);
    auto kind = read_model(content, "the trained tokenizer");
    return Tokenizer(std::move(content), std::move(kind), false);
  }

  /// Reads a tokenizer.model or a tokenizer.json, told apart by their content. Throws Error if the file is
  /// missing, neither, or a tokenizer that is not supported.
  static Tokenizer load(const std::filesystem::path& path) {
    const std::string name = excerpt(path.native());
    std::string content = read_text(path, "a tokenizer.model or tokenizer.json");
    const auto start = content.find_first_not_of(" \t\r\n");
    const bool is_json = path.extension() == ".json" || (start != std::string::npos && content[start] == '{');
    auto kind = is_json ? read_json(content, name) : read_model(content, name);
    return Tokenizer(std::move(content), std::move(kind), is_json);
  }

  /// The content of the file.
  const std::string& model() const { return content_; }

  /// The usual name of such a file: tokenizer.model or tokenizer.json.
  const char* file_name() const { return is_json_ ? "tokenizer.json" : "tokenizer.model"; }

  /// Writes the file.
  void save(const std::filesystem::path& path) const { write_file(path, content_); }

  /// fingerprint() of the file, by which two corpora are known to share their tokenizer.
  std::string fingerprint() const { return lnfree::fingerprint(content_); }

  /// Ids run from 0 to vocab_size() - 1.
  int vocab_size() const {
    return std::visit([](const auto& kind) { return kind.vocab_size(); }, *kind_);
  }

  /// The id of a token by its name in the file, such as <|endoftext|>, or nothing if there is none.
  std::optional<std::int32_t> find(const std::string& token) const {
    return std::visit([&](const auto& kind) { return kind.find(token); }, *kind_);
  }

  /// Usual names of the token that ends a text. The first is that of a tokenizer trained here.
  static constexpr const char* ends_of_text[] = {"<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>"};

  /// The id of the first of these tokens that there is, or nothing if there is none.
  std::optional<std::int32_t> end_of_text() const {
    for (const char* name : ends_of_text)
      if (const auto id = find(name)) return id;
    return std::nullopt;
  }

  /// Whether decode(encode(text)) == text for every text. Some files change it, for example by adding a space
  /// in front.
  bool is_lossless() const {
    return std::visit([](const auto& kind) { return kind.is_lossless(); }, *kind_);
  }

  /// The ids of a text: any bytes. Safe to call from several threads.
  std::vector<std::int32_t> encode(std::string_view text) const {
    return std::visit([&](const auto& kind) { return kind.encode(text); }, *kind_);
  }

  /// The text of ids. Throws Error for an id outside the vocabulary.
  std::string decode(std::span<const std::int32_t> ids) const {
    return std::visit([&](const auto& kind) { return kind.decode(ids); }, *kind_);
  }

 private:
#ifdef LNFREE_WITH_PCRE2
  using Kind = std::variant<SentencePieceTokenizer, ByteLevelTokenizer>;

  static std::shared_ptr<const Kind> read_json(const std::string& content, const std::string& name) {
    return std::make_shared<const Kind>(std::in_place_type<ByteLevelTokenizer>, content, name);
  }
#else
  using Kind = std::variant<SentencePieceTokenizer>;

  static std::shared_ptr<const Kind> read_json(const std::string&, const std::string& name) {
    throw Error(name +
                " is a tokenizer.json, which this program cannot read: it was built without PCRE2; install "
                "libpcre2-dev and build it again.");
  }
#endif

  static std::shared_ptr<const Kind> read_model(const std::string& content, const std::string& name) {
    return std::make_shared<const Kind>(std::in_place_type<SentencePieceTokenizer>, content, name);
  }

  Tokenizer(std::string content, std::shared_ptr<const Kind> kind, bool is_json)
      : content_(std::move(content)), kind_(std::move(kind)), is_json_(is_json) {}

  std::string content_;
  std::shared_ptr<const Kind> kind_;
  bool is_json_;
};

}  // namespace lnfree
