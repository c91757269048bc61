#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace lnfree {

/// A token that is searched for in a text before the text is split into words.
struct AddedToken {
  std::string text;                  ///< What is searched for, in UTF-8; not empty.
  std::int32_t id = 0;               ///< Its id.
  bool takes_spaces_before = false;  ///< Whether it includes the white space before it.
  bool takes_spaces_behind = false;  ///< Whether it includes the white space behind it.
};

/// Added tokens and the search for them. Of several tokens at one position the longest is found.
class AddedTokens {
 public:
  /// None.
  AddedTokens() = default;
  /// These tokens. Of two with the same text the first is found.
  explicit AddedTokens(std::vector<AddedToken> tokens) : is_empty_(tokens.empty()) {
    std::stable_sort(tokens.begin(), tokens.end(),
                     [](const AddedToken& a, const AddedToken& b) { return a.text.size() > b.text.size(); });
    for (AddedToken& token : tokens)
      by_first_byte_[static_cast<unsigned char>(token.text[0])].push_back(std::move(token));
  }

  /// Appends the ids of the tokens in a text in UTF-8, and passes the text between them to `rest`.
  template <class Rest>
  void split(std::string_view text, std::vector<std::int32_t>& ids, const Rest& rest) const {
    if (is_empty_) return rest(text);
    std::size_t begin = 0;  // of the text without a token
    for (std::size_t at = 0; at < text.size();) {
      const AddedToken* const found = find(text, at);
      if (found == nullptr) {
        ++at;
        continue;
      }
      std::size_t from = at, to = at + found->text.size();
      at = to;
      if (found->takes_spaces_before) from = std::max(begin, before_spaces(text, from));
      if (found->takes_spaces_behind) to = behind_spaces(text, to);
      if (from > begin) rest(text.substr(begin, from - begin));
      ids.push_back(found->id);
      begin = to;
    }
    if (begin < text.size()) rest(text.substr(begin));
  }

 private:
  /// The token that begins at `at`, null if none does.
  const AddedToken* find(std::string_view text, std::size_t at) const {
    for (const AddedToken& token : by_first_byte_[static_cast<unsigned char>(text[at])])
      if (text.substr(at).starts_with(token.text)) return &token;
    return nullptr;
  }

  /// The size of the white space that starts at `at`, 0 if there is none.
  static std::size_t space_size(std::string_view text, std::size_t at) {
    const auto is = [&](std::string_view space) { return text.substr(at).starts_with(space); };
    if (at >= text.size()) return 0;
    const auto c = static_cast<unsigned char>(text[at]);
    if (c == ' ' || (c >= '\t' && c <= '\r')) return 1;
    if (is("\u0085") || is("\u00A0")) return 2;
    if (is("\u1680") || is("\u2028") || is("\u2029") || is("\u202F") || is("\u205F") || is("\u3000"))
      return 3;
    if (is("\xE2\x80") && at + 2 < text.size()) {  // U+2000 to U+200A
      const auto last = static_cast<unsigned char>(text[at + 2]);
      if (last >= 0x80 && last <= 0x8A) return 3;
    }
    return 0;
  }

  static std::size_t behind_spaces(std::string_view text, std::size_t at) {
    while (const std::size_t size = space_size(text, at)) at += size;
    return at;
  }

  static std::size_t before_spaces(std::string_view text, std::size_t at) {
    for (;;) {
      std::size_t before = at;
      for (std::size_t size = 1; size <= 3 && size <= at; ++size)
        if (space_size(text, at - size) == size) before = at - size;
      if (before == at) return at;
      at = before;
    }
  }

  std::array<std::vector<AddedToken>, 256> by_first_byte_;  // longer ones first
  bool is_empty_ = true;
};

}  // namespace lnfree
