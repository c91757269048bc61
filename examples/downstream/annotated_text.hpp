#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <lnfree/core/error.hpp>
#include <lnfree/core/excerpt.hpp>
#include <lnfree/core/files.hpp>
#include <lnfree/core/json.hpp>
#include <lnfree/data/tokenizer.hpp>

/// Source text with a class for each byte, as annotate_python.py writes it, cut into windows of tokens.
namespace downstream {

/// The classes of source text, in the order of `class_letters`.
enum class TokenClass { identifier, keyword, number, string, comment, op, whitespace };
/// The letter of each class in an annotated file.
inline constexpr std::string_view class_letters = "iknscow";
/// The names of the classes in results.
inline constexpr std::array class_names{"identifier", "keyword",  "number",    "string",
                                        "comment",    "operator", "whitespace"};

/// The closing brackets whose prediction is measured.
inline constexpr std::string_view closing_brackets = ")]}";

/// A text, and the class letter of each of its bytes.
struct AnnotatedText {
  std::string text, classes;
};

/// Reads an annotated file: on each line a JSON object with "text" and "classes", which has a letter for each
/// byte of the text. Throws Error, with file and line, for anything else.
inline std::vector<AnnotatedText> read_annotated(const std::filesystem::path& path) {
  using lnfree::Error;
  const std::string name = lnfree::excerpt(path.native());
  std::istringstream file(lnfree::read_text(path, "a file that annotate_python.py wrote"));
  std::vector<AnnotatedText> texts;
  std::string line;
  for (std::int64_t number = 1; std::getline(file, line); ++number) {
    const lnfree::Json json = lnfree::parse_json(line);
    const auto field = [&](const char* key) {
      if (!json.is_object() || !json.contains(key) || !json[key].is_string())
        throw Error(name + ", line " + std::to_string(number) + " is not a JSON object with a text \"" + key +
                    "\"; write the file with annotate_python.py");
      return json[key].template get<std::string>();
    };
    AnnotatedText one{field("text"), field("classes")};
    if (one.text.size() != one.classes.size()) {
      throw Error(name + ", line " + std::to_string(number) + " has " + std::to_string(one.classes.size()) +
                  " classes for " + std::to_string(one.text.size()) +
                  " bytes; write the file with annotate_python.py");
    }
    if (const auto at = one.classes.find_first_not_of(class_letters); at != std::string::npos) {
      throw Error(name + ", line " + std::to_string(number) + " has an unknown class " +
                  lnfree::excerpt(std::string_view(one.classes).substr(at, 1)) + "; the classes are " +
                  std::string(class_letters));
    }
    texts.push_back(std::move(one));
  }
  if (file.bad()) throw Error(name + " could not be read to its end");
  if (texts.empty()) throw Error(name + " holds no text; annotate at least one file that Python can read");
  return texts;
}

/// Facts about a token of a window.
struct TokenNote {
  TokenClass kind = TokenClass::whitespace;
  char closes = 0;  ///< The closing bracket that it begins with; 0: none.
  /// For a token of an identifier: how many tokens before the identifier's first one its last occurrence in
  /// the window began; 0 if there is none. -1 for all other tokens, and if the identifier begins before the
  /// window.
  int distance = -1;
};

/// Consecutive tokens of one text.
struct Window {
  std::vector<std::int32_t> tokens;
  std::vector<TokenNote> notes;  ///< One for each token.
};

/// The first byte of a token's text that is not a space; the first byte if all are spaces.
inline std::size_t first_byte(std::string_view token) {
  const auto at = token.find_first_not_of(' ');
  return at == std::string_view::npos ? 0 : at;
}

/// The closing bracket that a token's text begins with after spaces; 0 if it begins with something else.
inline char closing_bracket(std::string_view token) {
  if (token.empty()) return 0;
  const char first = token[first_byte(token)];
  return closing_brackets.find(first) == std::string_view::npos ? '\0' : first;
}

/// The notes of the tokens [first, last) of a text, where token t holds the bytes [begins[t], begins[t + 1]).
/// A token has the class of its first byte that is not a space.
inline std::vector<TokenNote> notes_of(const AnnotatedText& text, const std::vector<std::size_t>& begins,
                                       std::size_t first, std::size_t last) {
  const auto is_name = [&](std::size_t byte) { return text.classes[byte] == 'i'; };
  const auto begins_name = [&](std::size_t byte) {
    return is_name(byte) && (byte == 0 || !is_name(byte - 1));
  };
  const auto spelling = [&](std::size_t byte) {
    const auto end = std::min(text.classes.find_first_not_of('i', byte), text.classes.size());
    return std::string_view(text.text).substr(byte, end - byte);
  };
  std::map<std::string_view, std::size_t> seen;  // the token in which a spelling last began
  std::map<std::size_t, int> distances;          // by the first byte of each name of the window
  std::vector<TokenNote> notes;
  for (std::size_t t = first; t < last; ++t) {
    for (std::size_t byte = begins[t]; byte < begins[t + 1]; ++byte) {
      if (!begins_name(byte)) continue;
      const auto [at, is_new] = seen.try_emplace(spelling(byte), t);
      distances[byte] = is_new ? 0 : std::max(1, static_cast<int>(t - std::exchange(at->second, t)));
    }
    TokenNote note;
    if (begins[t] < begins[t + 1]) {
      const std::string_view bytes = std::string_view(text.text).substr(begins[t], begins[t + 1] - begins[t]);
      std::size_t byte = begins[t] + first_byte(bytes);
      note.kind = static_cast<TokenClass>(class_letters.find(text.classes[byte]));
      if (note.kind == TokenClass::op) note.closes = closing_bracket(bytes);
      if (note.kind == TokenClass::identifier) {
        while (!begins_name(byte)) --byte;
        if (const auto found = distances.find(byte); found != distances.end()) note.distance = found->second;
      }
    }
    notes.push_back(note);
  }
  return notes;
}

/// Cuts a text into windows of `context` tokens; the last one may be shorter. A window of a single token
/// predicts nothing and is dropped. Throws Error if the tokens do not restore the text byte by byte.
inline void add_windows(const AnnotatedText& text, const lnfree::Tokenizer& tokenizer, int context,
                        std::vector<Window>& windows) {
  const std::vector<std::int32_t> tokens = tokenizer.encode(text.text);
  std::vector<std::size_t> begins{0};
  for (const std::int32_t token : tokens)
    begins.push_back(begins.back() + tokenizer.decode({&token, 1}).size());
  if (begins.back() != text.text.size()) {
    throw lnfree::Error("the tokenizer changes text, so its tokens cannot be classified: " +
                        std::to_string(text.text.size()) + " bytes became " + std::to_string(begins.back()) +
                        "; use one that keeps every byte");
  }
  const auto step = static_cast<std::size_t>(context);
  for (std::size_t first = 0; first + 1 < tokens.size(); first += step) {
    const std::size_t last = std::min(first + step, tokens.size());
    if (last - first < 2) break;
    windows.push_back({{tokens.begin() + static_cast<std::ptrdiff_t>(first),
                        tokens.begin() + static_cast<std::ptrdiff_t>(last)},
                       notes_of(text, begins, first, last)});
  }
}

}  // namespace downstream
