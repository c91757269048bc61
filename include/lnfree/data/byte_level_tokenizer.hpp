#pragma once

#ifdef LNFREE_WITH_UTF8PROC
#include <utf8proc.h>
#endif

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include <lnfree/core/error.hpp>
#include <lnfree/core/excerpt.hpp>
#include <lnfree/core/json.hpp>
#include <lnfree/core/utf8.hpp>
#include <lnfree/data/added_tokens.hpp>
#include <lnfree/data/byte_alphabet.hpp>
#include <lnfree/data/byte_pairs.hpp>
#include <lnfree/data/split_pattern.hpp>

namespace lnfree {

/// A Hugging Face tokenizer.json with byte-level BPE, as used by GPT-2, Llama 3 and others. It gives the same
/// tokens as Hugging Face's `tokenizers` with add_special_tokens=False.
///
/// Files with settings that would change tokens and are not supported here are refused. Settings for a single
/// call (post_processor, truncation and padding) are ignored.
class ByteLevelTokenizer {
 public:
  /// Reads the content of a tokenizer.json; `name` is the name of the file in messages. Throws Error if it is
  /// malformed, another kind of tokenizer, or needs something that is not supported.
  ByteLevelTokenizer(std::string_view content, std::string name) : name_(std::move(name)) {
    std::vector<std::pair<std::string, std::int32_t>> vocabulary;
    const Json json = parse(content, vocabulary);
    const Json& model = object_in(json, "model");
    check_model(model);
    if (json.contains("normalizer") && !json["normalizer"].is_null()) read_normalizer(json["normalizer"]);
    read_vocabulary(vocabulary);
    read_added_tokens(json);
    read_merges(model, vocabulary);
    read_pre_tokenizer(object_in(json, "pre_tokenizer"), true);
    if (!has_byte_level_) refuse("has no pre-tokenizer ByteLevel; only byte-level BPE is supported");
    if (json.contains("decoder") && !json["decoder"].is_null() && kind_of(json["decoder"]) != "ByteLevel")
      refuse("has the decoder " + kind_of(json["decoder"]) + "; only ByteLevel is supported");
  }

  ByteLevelTokenizer(const ByteLevelTokenizer&) = delete;
  ByteLevelTokenizer& operator=(const ByteLevelTokenizer&) = delete;

  /// Ids run from 0 to vocab_size() - 1; some may be unused.
  int vocab_size() const { return static_cast<int>(texts_.size()); }

  /// The id of a token by its name in the file, or nothing if there is none.
  std::optional<std::int32_t> find(const std::string& token) const {
    const auto found = ids_.find(token);
    return found == ids_.end() ? std::nullopt : std::optional(found->second);
  }

  /// Whether decode(encode(text)) == text for every text. It is not if the file adds a space before a text,
  /// strips characters around or between tokens, or composes characters (NFC).
  bool is_lossless() const { return is_lossless_; }

  /// The ids of a text. Bytes that are not UTF-8 become the tokens of single bytes. Safe to call from several
  /// threads.
  std::vector<std::int32_t> encode(std::string_view text) const {
    if (text.size() > static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max()))
      throw Error("a text of " + std::to_string(text.size()) +
                  " bytes is too long to be encoded at once; give it in parts of less than 2 GiB.");
    std::vector<std::int32_t> ids;
    ids.reserve(text.size() / 3);
    auto memory = borrow_memory();
    while (const auto invalid = find_invalid_utf8(text)) {
      encode_valid(text.substr(0, *invalid), *memory, ids);
      ids.push_back(bytes_[static_cast<unsigned char>(text[*invalid])]);
      text.remove_prefix(*invalid + 1);
    }
    encode_valid(text, *memory, ids);
    return_memory(std::move(memory));
    return ids;
  }

  /// The text of ids, special tokens included; it is UTF-8 if the ids are those of a whole text. Throws Error
  /// for an id that is not in the vocabulary.
  std::string decode(std::span<const std::int32_t> ids) const {
    std::string text;
    for (const auto id : ids) {
      if (id < 0 || id >= vocab_size() || !texts_[static_cast<std::size_t>(id)])
        throw Error("token id " + std::to_string(id) + " is not in the tokenizer's vocabulary of " +
                    std::to_string(vocab_size()) + ".");
      text += *texts_[static_cast<std::size_t>(id)];
    }
    return text;
  }

 private:
  /// A step of the pre-tokenizer: text in, pieces out.
  struct Step {
    std::unique_ptr<SplitPattern> pattern;  // null: the text is not split
    bool adds_prefix_space = false;
    bool drops_matches = false, drops_gaps = false;
  };

  struct Memory {
    BytePairs::Memory pairs;
    SplitPattern::Matcher matcher;
  };

  [[noreturn]] void refuse(const std::string& what) const { throw Error(name_ + " " + what + "."); }

  // ---- The file.

  // Everything but the vocabulary, which has too many keys for a Json, whose search is linear.
  Json parse(std::string_view content, std::vector<std::pair<std::string, std::int32_t>>& vocabulary) const {
    enum class Place { outside, model, vocab } place = Place::outside;
    std::string key;
    std::string bad_id;
    const auto take = [&](int depth, Json::parse_event_t event, Json& value) {
      if (depth > max_json_depth)
        refuse("nests objects and lists more than " + std::to_string(max_json_depth) +
               " deep; a tokenizer.json has a few levels");
      if (event == Json::parse_event_t::key) {
        const auto& name = value.get_ref<const std::string&>();
        if (depth == 1) place = name == "model" ? Place::model : Place::outside;
        if (depth == 2 && place != Place::outside) place = name == "vocab" ? Place::vocab : Place::model;
        if (depth == 3 && place == Place::vocab) {
          key = name;
          return false;
        }
      } else if (depth == 3 && place == Place::vocab) {
        if (event == Json::parse_event_t::value && value.is_number_unsigned() &&
            value.get<std::uint64_t>() < max_vocab_size)
          vocabulary.emplace_back(std::move(key), value.get<std::int32_t>());
        else if (bad_id.empty())
          bad_id = "gives the token '" + excerpt(key) + "' no id; a whole number below " +
                   std::to_string(max_vocab_size) + " was expected";
      }
      return true;
    };
    try {
      Json json = Json::parse(content, take);
      if (!json.is_object()) refuse("is not a tokenizer.json: it holds no JSON object");
      if (!bad_id.empty()) {
        check_model(object_in(json, "model"));  // another kind of model has no such ids
        refuse(bad_id);
      }
      return json;
    } catch (const Json::exception& error) {
      refuse("is not a tokenizer.json: " + excerpt(error.what()));
    }
  }

  const Json& object_in(const Json& json, const char* key) const {
    const auto found = json.find(key);
    if (found == json.end() || !found->is_object())
      refuse(std::string("has no ") + key + "; a tokenizer.json with byte-level BPE was expected");
    return *found;
  }

  static std::string kind_of(const Json& part) {
    const auto type = part.is_object() ? part.find("type") : part.end();
    if (!part.is_object() || type == part.end() || !type->is_string()) return "of no type";
    return excerpt(type->get_ref<const std::string&>());
  }

  /// A flag of a part of the file.
  bool flag(const Json& part, const char* key, bool otherwise) const {
    const auto found = part.find(key);
    if (found == part.end() || found->is_null()) return otherwise;
    if (!found->is_boolean()) refuse(std::string("has a ") + key + " that is neither true nor false");
    return found->get<bool>();
  }

  void check_model(const Json& model) const {
    if (model.contains("type") && kind_of(model) != "BPE")
      refuse("has a model of type " + kind_of(model) + "; only BPE is supported");
    if (!model.contains("vocab") || !model["vocab"].is_object() || !model.contains("merges"))
      refuse("has no model of type BPE with vocab and merges");
    const auto absent = [&](const char* key) {
      const auto found = model.find(key);
      return found == model.end() || found->is_null() || *found == "" || *found == 0.0;
    };
    for (const char* key : {"dropout", "continuing_subword_prefix", "end_of_word_suffix"})
      if (!absent(key)) refuse(std::string("has a model with ") + key + ", which is not supported");
  }

  void read_normalizer(const Json& normalizer) {
    const auto parts = normalizer.is_object() ? normalizer.find("normalizers") : normalizer.end();
    if (kind_of(normalizer) == "Sequence" && parts != normalizer.end() && parts->is_array()) {
      for (const Json& part : *parts) read_normalizer(part);
      return;
    }
    if (kind_of(normalizer) != "NFC")
      refuse("has the normalizer " + kind_of(normalizer) + "; none and NFC are supported");
#ifdef LNFREE_WITH_UTF8PROC
    composes_ = true;
    is_lossless_ = false;
#else
    refuse(
        "has the normalizer NFC, for which this program was built without utf8proc; install libutf8proc-dev "
        "and build it again");
#endif
  }

  void read_vocabulary(const std::vector<std::pair<std::string, std::int32_t>>& vocabulary) {
    for (const auto& [token, id] : vocabulary) {
      if (static_cast<std::size_t>(id) > 4 * vocabulary.size())
        refuse("has " + std::to_string(vocabulary.size()) + " tokens, but gives '" + excerpt(token) +
               "' the id " + std::to_string(id) + "; ids without so large holes were expected");
      if (!ids_.emplace(token, id).second) refuse("has the token '" + excerpt(token) + "' twice");
      const auto bytes = byte_alphabet::bytes_of(token);
      set_text(id, bytes ? *bytes : token, token);
    }
    bytes_.fill(-1);
    for (unsigned byte = 0; byte < 256; ++byte) {
      const auto found = ids_.find(byte_alphabet::character_of(byte));
      if (found == ids_.end())
        refuse("has no token for the byte " + std::to_string(byte) +
               ", so not every text could be encoded; train it with ByteLevel's initial alphabet");
      bytes_[byte] = found->second;
    }
  }

  void set_text(std::int32_t id, const std::string& text, const std::string& token) {
    const auto at = static_cast<std::size_t>(id);
    if (at >= texts_.size()) texts_.resize(at + 1);
    if (texts_[at])
      refuse("gives two tokens the id " + std::to_string(id) + ", one of them '" + excerpt(token) + "'");
    texts_[at] = text;
  }

  // Hugging Face's tokenizers give an added token its id in the vocabulary, or the next free one.
  void read_added_tokens(const Json& json) {
    const auto list = json.find("added_tokens");
    if (list == json.end() || list->is_null()) return;
    if (!list->is_array()) refuse("has added_tokens that are not a list");
    std::vector<AddedToken> verbatim, normalized;
    auto next = static_cast<std::int64_t>(ids_.size());
    for (const Json& entry : *list) {
      const auto text = entry.is_object() ? entry.find("content") : entry.end();
      const auto id = entry.is_object() ? entry.find("id") : entry.end();
      if (!entry.is_object() || text == entry.end() || !text->is_string() || id == entry.end() ||
          !id->is_number_unsigned())
        refuse("has an added token without content or id");
      AddedToken token{text->get<std::string>(), 0, flag(entry, "lstrip", false),
                       flag(entry, "rstrip", false)};
      const std::string shown = "has the added token '" + excerpt(token.text) + "' ";
      if (token.text.empty()) continue;
      if (flag(entry, "single_word", false)) refuse(shown + "with single_word, which is not supported");
      const auto known = ids_.find(token.text);
      const std::int64_t expected = known != ids_.end() ? known->second : next;
      if (expected >= max_vocab_size || *id != expected)
        refuse(shown + "with the id " + excerpt(id->dump()) + " where " + std::to_string(expected) +
               " was expected");
      token.id = static_cast<std::int32_t>(expected);
      if (known == ids_.end()) {
        ids_.emplace(token.text, token.id);
        set_text(token.id, token.text, token.text);
      } else if (texts_[static_cast<std::size_t>(token.id)] != token.text) {
        is_lossless_ = false;  // of two texts with this id, the one in the vocabulary comes back
      }
      next = std::max(next, expected + 1);
      if (token.takes_spaces_before || token.takes_spaces_behind) is_lossless_ = false;
      // Normalized tokens are searched for after the others, in the remaining text once it is normalized.
      const bool is_normalized = flag(entry, "normalized", true);
      if (is_normalized) token.text = composed(token.text);
      (is_normalized ? normalized : verbatim).push_back(std::move(token));
    }
    verbatim_tokens_ = AddedTokens(std::move(verbatim));
    normalized_tokens_ = AddedTokens(std::move(normalized));
  }

  void read_merges(const Json& model, const std::vector<std::pair<std::string, std::int32_t>>& vocabulary) {
    const Json& list = model["merges"];
    if (!list.is_array()) refuse("has merges that are not a list");
    const std::unordered_map<std::string_view, std::int32_t> ids(vocabulary.begin(), vocabulary.end());
    std::vector<BytePairs::Merge> merges;
    merges.reserve(list.size());
    std::string left, right;
    for (const Json& entry : list) {
      if (entry.is_array() && entry.size() == 2 && entry[0].is_string() && entry[1].is_string()) {
        left = entry[0].get_ref<const std::string&>();
        right = entry[1].get_ref<const std::string&>();
      } else {
        const std::string text = entry.is_string() ? entry.get<std::string>() : "";
        const auto space = text.find(' ');
        if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos)
          refuse("has a merge that is neither [\"a\", \"b\"] nor \"a b\": " +
                 excerpt(entry.dump(-1, ' ', true)));
        left = text.substr(0, space);
        right = text.substr(space + 1);
      }
      const auto id = [&](const std::string& token) {
        const auto found = ids.find(token);
        if (found == ids.end())
          refuse("has a merge of '" + excerpt(left) + "' and '" + excerpt(right) + "', but no token '" +
                 excerpt(token) + "'");
        return found->second;
      };
      merges.push_back({id(left), id(right), id(left + right)});
    }
    BytePairs::WholeWords whole_words;
    if (flag(model, "ignore_merges", false))
      for (const auto& [token, id] : vocabulary)
        if (auto bytes = byte_alphabet::bytes_of(token)) whole_words.emplace(std::move(*bytes), id);
    pairs_.emplace(bytes_, merges, std::move(whole_words));
  }

  void read_pre_tokenizer(const Json& part, bool last) {
    const std::string kind = kind_of(part);
    if (kind == "Sequence") {
      const auto list = part.find("pretokenizers");
      if (list == part.end() || !list->is_array()) refuse("has a Sequence without pretokenizers");
      for (std::size_t i = 0; i < list->size(); ++i)
        read_pre_tokenizer((*list)[i], last && i + 1 == list->size());
      return;
    }
    if (steps_.size() == max_steps) refuse("has more than " + std::to_string(max_steps) + " pre-tokenizers");
    if (has_byte_level_) refuse("has the pre-tokenizer " + kind + " behind ByteLevel, which must come last");
    Step step;
    if (kind == "ByteLevel") {
      has_byte_level_ = true;
      step.adds_prefix_space = flag(part, "add_prefix_space", true);
      if (step.adds_prefix_space) is_lossless_ = false;
      if (flag(part, "use_regex", true)) step.pattern = std::make_unique<SplitPattern>(gpt2_pattern, name_);
    } else if (kind == "Split") {
      const auto behavior = part.find("behavior");
      const bool inverted = flag(part, "invert", false);
      if (behavior != part.end() && *behavior == "Removed") {
        (inverted ? step.drops_gaps : step.drops_matches) = true;
        is_lossless_ = false;
      } else if (behavior == part.end() || *behavior != "Isolated") {
        refuse("has a Split whose behavior is neither Isolated nor Removed, which is not supported");
      }
      step.pattern = std::make_unique<SplitPattern>(pattern_of(part), name_);
    } else if (kind == "Digits") {
      step.pattern = std::make_unique<SplitPattern>(
          flag(part, "individual_digits", false) ? "\\p{N}" : "\\p{N}+", name_);
    } else {
      refuse("has the pre-tokenizer " + kind +
             "; ByteLevel, Split, Digits and a Sequence of them are supported");
    }
    steps_.push_back(std::move(step));
  }

  std::string pattern_of(const Json& split) const {
    const auto pattern = split.find("pattern");
    if (pattern != split.end() && pattern->is_object()) {
      if (const auto regex = pattern->find("Regex"); regex != pattern->end() && regex->is_string())
        return regex->get<std::string>();
      if (const auto text = pattern->find("String"); text != pattern->end() && text->is_string()) {
        std::string quoted;
        for (const char c : text->get_ref<const std::string&>()) {
          const bool plain = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
                             static_cast<unsigned char>(c) >= 0x80 || c == '\n' || c == '\r' || c == '\t';
          if (!plain) quoted += '\\';
          quoted += c;
        }
        return quoted;
      }
    }
    refuse("has a Split without a pattern, a Regex or a String");
  }

  // ---- Text.

  std::unique_ptr<Memory> borrow_memory() const {
    {
      const std::lock_guard lock(mutex_);
      if (!memories_.empty()) {
        auto memory = std::move(memories_.back());
        memories_.pop_back();
        return memory;
      }
    }
    return std::make_unique<Memory>();
  }

  void return_memory(std::unique_ptr<Memory> memory) const {
    const std::lock_guard lock(mutex_);
    memories_.push_back(std::move(memory));
  }

  void encode_valid(std::string_view text, Memory& memory, std::vector<std::int32_t>& ids) const {
    const auto encode_plain = [&](std::string_view part) { split(0, part, memory, ids); };
    std::string normalized;
    const auto find_normalized = [&](std::string_view part) {
      if (composes_ && std::any_of(part.begin(), part.end(), [](char c) { return (c & 0x80) != 0; }))
        part = normalized = composed(part);
      normalized_tokens_.split(part, ids, encode_plain);
    };
    verbatim_tokens_.split(text, ids, find_normalized);
  }

  /// A text in the file's normal form: NFC, or unchanged.
  std::string composed(std::string_view text) const {
#ifdef LNFREE_WITH_UTF8PROC
    if (composes_) {
      utf8proc_uint8_t* result = nullptr;
      const auto size = ::utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                       static_cast<utf8proc_ssize_t>(text.size()), &result,
                                       static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
      const std::unique_ptr<utf8proc_uint8_t, void (*)(void*)> owner(result, std::free);
      if (size < 0)
        throw Error("a text of " + std::to_string(text.size()) +
                    " bytes cannot be brought into NFC: " + ::utf8proc_errmsg(size) + ".");
      return {reinterpret_cast<const char*>(result), static_cast<std::size_t>(size)};
    }
#endif
    return std::string(text);
  }

  /// Splits `text` by the steps from `index` on, and passes the pieces to the model.
  void split(std::size_t index, std::string_view text, Memory& memory, std::vector<std::int32_t>& ids) const {
    if (text.empty()) return;
    if (index == steps_.size()) return pairs_->encode(text, memory.pairs, ids);
    const Step& step = steps_[index];
    std::string spaced;
    if (step.adds_prefix_space && text.front() != ' ') text = spaced.append(1, ' ').append(text);
    if (!step.pattern) return split(index + 1, text, memory, ids);
    std::size_t at = 0;
    while (at < text.size()) {
      const auto match = step.pattern->find(text, at, memory.matcher);
      const std::size_t begin = match ? match->first : text.size();
      if (begin > at && !step.drops_gaps) split(index + 1, text.substr(at, begin - at), memory, ids);
      if (!match) return;
      if (!step.drops_matches) split(index + 1, text.substr(begin, match->second - begin), memory, ids);
      at = match->second;
    }
  }

  static constexpr std::int64_t max_vocab_size = 1 << 24;
  static constexpr std::size_t max_steps = 16;
  static constexpr const char* gpt2_pattern =
      "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

  std::string name_;
  std::unordered_map<std::string, std::int32_t> ids_;
  std::vector<std::optional<std::string>> texts_;  // by id
  std::array<std::int32_t, 256> bytes_{};
  AddedTokens verbatim_tokens_, normalized_tokens_;  // searched for before and after the text is normalized
  std::optional<BytePairs> pairs_;
  std::vector<Step> steps_;
  bool has_byte_level_ = false;
  bool composes_ = false;  // whether text is normalized to NFC
  bool is_lossless_ = true;
  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<Memory>> memories_;
};

}  // namespace lnfree
