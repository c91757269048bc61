#pragma once

#include <pcre2.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <lnfree/core/error.hpp>
#include <lnfree/core/excerpt.hpp>

namespace lnfree {

/// A regular expression by which a tokenizer.json splits text, written for Oniguruma as Hugging Face's
/// tokenizers use it and matched by PCRE2. The two interpret some constructs differently: what PCRE2 can
/// express is translated, and anything else is refused rather than matched differently.
class SplitPattern {
 public:
  /// A thread's memory for matching; threads must not share it.
  class Matcher {
   public:
    Matcher()
        : data_(pcre2_match_data_create(1, nullptr)),
          context_(pcre2_match_context_create(nullptr)),
          stack_(pcre2_jit_stack_create(1 << 15, 1 << 23, nullptr)) {
      if (!data_ || !context_) throw Error("there is no memory left to match a regular expression.");
      pcre2_jit_stack_assign(context_.get(), nullptr, stack_.get());
    }

   private:
    friend class SplitPattern;
    struct Free {
      void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
      void operator()(pcre2_match_context* context) const { pcre2_match_context_free(context); }
      void operator()(pcre2_jit_stack* stack) const { pcre2_jit_stack_free(stack); }
    };
    std::unique_ptr<pcre2_match_data, Free> data_;
    std::unique_ptr<pcre2_match_context, Free> context_;
    std::unique_ptr<pcre2_jit_stack, Free> stack_;
  };

  /// Throws Error, with `where` as the name of the file, if the expression is malformed, may match nothing,
  /// or uses an unsupported construct.
  SplitPattern(std::string_view oniguruma, const std::string& where) {
    const std::string shown = where + ": the regular expression '" + excerpt(oniguruma) + "' ";
    const std::string pattern = Translation(oniguruma, shown).result();
    const auto fail = [&](int code) {
      std::array<char, 256> text{};
      pcre2_get_error_message(code, reinterpret_cast<PCRE2_UCHAR*>(text.data()), text.size());
      throw Error(shown + "cannot be used: " + text.data() + ".");
    };
    const std::unique_ptr<pcre2_compile_context, void (*)(pcre2_compile_context*)> context(
        pcre2_compile_context_create(nullptr), pcre2_compile_context_free);
    if (context) pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
    int code = 0;
    PCRE2_SIZE offset = 0;
    code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                              PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &code,
                              &offset, context.get()));
    if (!code_) fail(code);
    std::uint32_t may_be_empty = 0;
    pcre2_pattern_info(code_.get(), PCRE2_INFO_MATCHEMPTY, &may_be_empty);
    if (may_be_empty != 0)
      throw Error(shown + "may match nothing, which is not supported; every match must have a character.");
    compiled_ = pcre2_jit_compile(code_.get(), PCRE2_JIT_COMPLETE) == 0;
  }

  /// The first match in `text` at or after `begin`: where it begins and ends. `text` must be valid UTF-8 and
  /// `begin` the start of a character. Throws Error if PCRE2 fails.
  std::optional<std::pair<std::size_t, std::size_t>> find(std::string_view text, std::size_t begin,
                                                          Matcher& matcher) const {
    const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
    const int result = compiled_ ? pcre2_jit_match(code_.get(), subject, text.size(), begin, 0,
                                                   matcher.data_.get(), matcher.context_.get())
                                 : pcre2_match(code_.get(), subject, text.size(), begin, PCRE2_NO_UTF_CHECK,
                                               matcher.data_.get(), matcher.context_.get());
    if (result == PCRE2_ERROR_NOMATCH) return std::nullopt;
    if (result < 0)
      throw Error("the tokenizer's regular expression cannot be matched with a text of " +
                  std::to_string(text.size()) + " bytes (PCRE2's error " + std::to_string(result) + ").");
    const PCRE2_SIZE* const ends = pcre2_get_ovector_pointer(matcher.data_.get());
    return std::pair(ends[0], ends[1]);
  }

 private:
  // Translates from Oniguruma's syntax to PCRE2's, character by character.
  class Translation {
   public:
    Translation(std::string_view text, const std::string& shown) : text_(text), shown_(shown) {
      while (at_ < text_.size()) next();
      if (in_class_) refuse("has a [ without its ]");
    }

    std::string result() const { return result_; }

   private:
    [[noreturn]] void refuse(const std::string& what) const { throw Error(shown_ + what + "."); }

    [[noreturn]] void refuse_part(std::size_t begin, std::size_t size) const {
      refuse("has '" + excerpt(text_.substr(begin, size)) + "', which is not supported");
    }

    bool sees(std::string_view words) const { return text_.substr(at_).starts_with(words); }

    void copy(std::size_t size) {
      result_ += text_.substr(at_, size);
      at_ += size;
    }

    // Where case is ignored, Oniguruma lets one letter match several, such as U+00DF "ss" and U+FB01 "fi",
    // and lets a property in a class match the other case. PCRE2 does neither. What might differ is refused.
    void refuse_folded(bool differs, std::string_view part) const {
      if (ignores_case_ && differs)
        refuse("ignores the case of '" + excerpt(part) + "', which is not supported");
    }

    // The next character of the expression stands for itself.
    void literal(char c) {
      literal_ = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
      // With these letters begin the texts in ASCII that one character may match.
      const std::string pair = {before_, literal_};
      for (const char* folded : {"ff", "fi", "fl", "ss", "st"}) refuse_folded(pair == folded, pair);
    }

    void next() {
      const char c = text_[at_];
      before_ = std::exchange(literal_, '\0');
      if (c == '\\') return escape();
      if ((c & 0x80) != 0) {
        std::size_t size = 1;
        while (at_ + size < text_.size() && (text_[at_ + size] & 0xC0) == 0x80) ++size;
        refuse_folded(true, text_.substr(at_, size));
        return copy(size);
      }
      if (in_class_) {
        // Oniguruma has nested classes and intersections of classes.
        if (c == '[' || sees("&&")) refuse_part(at_, 2);
        if (c == ']') in_class_ = false;
        return copy(1);
      }
      if (c == '[') {
        in_class_ = true;
        copy(1);
        is_negated_ = sees("^");
        if (is_negated_) copy(1);
        if (sees("]")) refuse_part(at_ - 1, 2);
        return;
      }
      if (c == '(') return group();
      if (c == ')' && !outside_.empty()) {
        ignores_case_ = outside_.back();
        outside_.pop_back();
      }
      if (c == ')' || c == '{') literal_ = before_;
      if (c == '{') return interval();
      if (c == ')') return copy(1);
      literal(c);
      copy(1);
    }

    void group() {
      if (sees("(*")) refuse_part(at_, 2);
      // Within an expression, the scope of an option ends elsewhere in Oniguruma than in PCRE2.
      if (at_ == 0 && sees("(?i)")) {
        ignores_case_ = true;
        return copy(4);
      }
      outside_.push_back(ignores_case_);
      if (!sees("(?")) return copy(1);
      if (sees("(?i:")) ignores_case_ = true;
      if (sees("(?:")) literal_ = before_;
      for (const char* kind : {"(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?i:"})
        if (sees(kind)) return copy(std::string_view(kind).size());
      refuse_part(at_, 3);
    }

    // {2}, {2,} and {2,3}, of which the last two may be lazy. PCRE2 and Oniguruma differ in {,3}, in {2}?,
    // which is an optional repetition in Oniguruma, and in a + after an interval.
    void interval() {
      std::size_t end = at_ + 1;
      const auto digits = [&] {
        const std::size_t begin = end;
        while (end < text_.size() && text_[end] >= '0' && text_[end] <= '9') ++end;
        return end > begin;
      };
      bool good = digits();
      const bool is_fixed = end < text_.size() && text_[end] == '}';
      if (good && end < text_.size() && text_[end] == ',') {
        ++end;
        digits();
      }
      good = good && end < text_.size() && text_[end] == '}';
      const std::string_view after = text_.substr(std::min(end + 1, text_.size()));
      if (!good || after.starts_with('+') || (is_fixed && after.starts_with('?')))
        refuse_part(at_, end + 2 - at_);
      copy(end + 1 - at_);
    }

    void escape() {
      if (at_ + 1 == text_.size()) refuse("ends with a backslash");
      const char c = text_[at_ + 1];
      const auto put = [&](std::string_view words) {
        result_ += words;
        at_ += 2;
      };
      refuse_folded(in_class_ && !is_negated_ && std::string_view("SwD").find(c) != std::string_view::npos,
                    text_.substr(at_, 2));
      // PCRE2's own \s and \w match other characters than Unicode's.
      if (c == 's') return put("\\p{White_Space}");
      if (c == 'S') return put("\\P{White_Space}");
      if (c == 'w' && in_class_) return put("\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}");
      // Outside of a class, the small numbers of Latin-1 count as word characters.
      if (c == 'w') return put("[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\xB2\\xB3\\xB9\\xBC-\\xBE]");
      if (c == 'W' && !in_class_)
        return put("[^\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\xB2\\xB3\\xB9\\xBC-\\xBE]");
      if (c == 'p' || c == 'P') return property();
      if (c == 'x' || c == 'u') return number();
      const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
      if (letter && std::string_view("dDnrtf").find(c) == std::string_view::npos) refuse_part(at_, 2);
      copy(2);
    }

    // General categories have the same names; scripts in PCRE2 would include script extensions.
    void property() {
      const std::size_t begin = at_, end = text_.find('}', at_);
      if (!text_.substr(at_ + 2).starts_with('{') || end == std::string_view::npos) refuse_part(at_, 3);
      std::string_view name = text_.substr(at_ + 3, end - at_ - 3);
      bool negated = text_[at_ + 1] == 'P';
      if (name.starts_with('^')) {
        negated = !negated;
        name.remove_prefix(1);
      }
      bool known = !name.empty() && name.size() <= 20;
      for (const char c : name)
        known = known && ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_');
      if (!known) refuse_part(begin, end + 1 - begin);
      const bool has_cases = name.size() > 1 || name == "L" || name == "M";
      refuse_folded(in_class_ && (name.size() > 1 || ((has_cases || negated) && !is_negated_)),
                    text_.substr(begin, end + 1 - begin));
      // Some versions of PCRE2 let \p{Lu} match both cases.
      const bool keeps_case = ignores_case_ && !in_class_ && has_cases;
      if (keeps_case) result_ += "(?-i:";
      result_ += negated ? "\\P{" : "\\p{";
      if (name.size() > 2) result_ += "sc:";
      result_.append(name).push_back('}');
      if (keeps_case) result_.push_back(')');
      // U+0345 is a mark, and the small form of a letter.
      if (ignores_case_ && in_class_ && has_cases) result_ += "\\x{345}";
      at_ = end + 1;
    }

    // \xHH, \x{H...}, \uHHHH
    void number() {
      const std::size_t begin = at_;
      const bool braces = text_[at_ + 1] == 'x' && text_.substr(at_ + 2).starts_with('{');
      const std::size_t first = at_ + 2 + braces;
      std::size_t end = first;
      const std::size_t max_digits = braces ? 8 : text_[at_ + 1] == 'x' ? 2 : 4;
      while (end < text_.size() && end < first + max_digits && is_hexadecimal(text_[end])) ++end;
      const bool whole =
          braces ? end > first && text_.substr(end).starts_with('}') : end == first + max_digits;
      // A byte beyond ASCII is only part of a character.
      if (!whole || (!braces && max_digits == 2 && text_[first] > '7')) refuse_part(begin, end + 1 - begin);
      const auto digits = text_.substr(first, end - first);
      const auto significant = digits.substr(std::min(digits.find_first_not_of('0'), digits.size()));
      const std::size_t size = end + braces - begin;
      const bool is_ascii = significant.size() < 2 || (significant.size() == 2 && significant[0] < '8');
      refuse_folded(!is_ascii, text_.substr(begin, size));
      if (is_ascii && !in_class_)
        literal(static_cast<char>(std::stoi("0" + std::string(significant), nullptr, 16)));
      result_.append("\\x{").append(digits).push_back('}');
      at_ += size;
    }

    static bool is_hexadecimal(char c) {
      return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
    }

    std::string_view text_;
    const std::string& shown_;
    std::string result_;
    std::size_t at_ = 0;
    char before_ = '\0', literal_ = '\0';         // the character before at_ and the present one, if literal
    bool in_class_ = false, is_negated_ = false;  // is_negated_: of the present class
    bool ignores_case_ = false;
    std::vector<bool> outside_;  // ignores_case_ outside each open group
  };

  struct Free {
    void operator()(pcre2_code* code) const { pcre2_code_free(code); }
  };
  std::unique_ptr<pcre2_code, Free> code_;
  bool compiled_ = false;  // to machine code
};

}  // namespace lnfree
