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
#include <lnfree/core/utf8.hpp>

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
  struct Free {
    void operator()(pcre2_code* code) const { pcre2_code_free(code); }
  };

  // A pattern of PCRE2 that ignores case.
  class CaselessPattern {
   public:
    explicit CaselessPattern(std::string_view pattern) {
      int error = 0;
      PCRE2_SIZE offset = 0;
      code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                                PCRE2_UTF | PCRE2_UCP | PCRE2_CASELESS, &error, &offset, nullptr));
    }

    // False for a malformed pattern.
    explicit operator bool() const { return code_ != nullptr; }

    bool finds(std::string_view text) const {
      const std::unique_ptr<pcre2_match_data, void (*)(pcre2_match_data*)> data(
          pcre2_match_data_create(1, nullptr), pcre2_match_data_free);
      return pcre2_match(code_.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), 0, 0,
                         data.get(), nullptr) > 0;
    }

   private:
    std::unique_ptr<pcre2_code, Free> code_;
  };

  // Where case is ignored, Oniguruma lets each of these letters match several, such as U+00DF "ss" and U+FB01
  // "fi": those whose full case folding (CaseFolding.txt) has more than one letter. PCRE2 does not.
  static const std::string& letters_for_several() {
    static const std::string letters = [] {
      constexpr std::array<std::pair<char32_t, char32_t>, 29> ranges{
          {{0xDF, 0xDF},     {0x130, 0x130},   {0x149, 0x149},   {0x1F0, 0x1F0},   {0x390, 0x390},
           {0x3B0, 0x3B0},   {0x587, 0x587},   {0x1E96, 0x1E9A}, {0x1E9E, 0x1E9E}, {0x1F50, 0x1F50},
           {0x1F52, 0x1F52}, {0x1F54, 0x1F54}, {0x1F56, 0x1F56}, {0x1F80, 0x1FAF}, {0x1FB2, 0x1FB4},
           {0x1FB6, 0x1FB7}, {0x1FBC, 0x1FBC}, {0x1FC2, 0x1FC4}, {0x1FC6, 0x1FC7}, {0x1FCC, 0x1FCC},
           {0x1FD2, 0x1FD3}, {0x1FD6, 0x1FD7}, {0x1FE2, 0x1FE4}, {0x1FE6, 0x1FE7}, {0x1FF2, 0x1FF4},
           {0x1FF6, 0x1FF7}, {0x1FFC, 0x1FFC}, {0xFB00, 0xFB06}, {0xFB13, 0xFB17}}};
      std::string all;
      for (const auto& [first, last] : ranges)
        for (char32_t letter = first; letter <= last; ++letter) all += utf8_of(letter);
      return all;
    }();
    return letters;
  }

  // Pairs of letters that are the same where case is ignored.
  using Pairs = std::vector<std::array<std::string, 2>>;

  // Some that properties tell apart, or that have the same case folding of several letters.
  static const Pairs& unlike_pairs() {
    static const Pairs pairs = {{"A", "a"},           {"\u01C4", "\u01C5"}, {"\u0345", "\u03B9"},
                                {"\u00B5", "\u03BC"}, {"\u0390", "\u1FD3"}, {"\u03B0", "\u1FE3"},
                                {"\uFB05", "\uFB06"}};
    return pairs;
  }

  // Those of Unicode 16 that this PCRE2 does not know; Oniguruma does.
  static const Pairs& unknown_pairs() {
    static const Pairs pairs = [] {
      Pairs recent = {{"\u019B", "\uA7DC"},
                      {"\u0264", "\uA7CB"},
                      {"\u1C89", "\u1C8A"},
                      {"\uA7CC", "\uA7CD"},
                      {"\uA7DA", "\uA7DB"}};
      for (char32_t letter = 0x10D50; letter <= 0x10D65; ++letter)
        recent.push_back({utf8_of(letter), utf8_of(letter + 0x20)});
      std::erase_if(recent, [](const auto& pair) { return CaselessPattern(pair[0]).finds(pair[1]); });
      return recent;
    }();
    return pairs;
  }

  // What letters_for_several() match, or how that begins.
  static const CaselessPattern& several_letters() {
    static const CaselessPattern pattern(
        R"(ff|f[il]|s[st]|a\x{2be}|h\x{331}|i\x{307}|j\x{30c}|t\x{308}|[wy]\x{30a}|\x{2bc}n|)"
        R"([\x{3b9}\x{3c5}]\x{308}[\x{300}\x{301}\x{342}]|[\x{3b1}\x{3b7}\x{3b9}\x{3c5}\x{3c9}]\x{342}|)"
        R"([\x{3c1}\x{3c5}]\x{313}|[\x{3ac}\x{3ae}\x{3b1}\x{3b7}\x{3c9}\x{3ce}\x{1f00}-\x{1f07}\x{1f20}-\x{1f27})"
        R"(\x{1f60}-\x{1f67}\x{1f70}\x{1f74}\x{1f7c}]\x{3b9}|\x{565}\x{582}|\x{57e}\x{576}|)"
        R"(\x{574}[\x{565}\x{56b}\x{56d}\x{576}])");
    return pattern;
  }

  // Translates from Oniguruma's syntax to PCRE2's, character by character.
  class Translation {
   public:
    Translation(std::string_view text, const std::string& shown) : text_(text), shown_(shown) {
      while (at_ < text_.size()) next();
      check_runs();
      if (in_class_) refuse("has a [ without its ]");
    }

    std::string result() const { return result_; }

   private:
    static constexpr char run_end = '\xFF';  // never in UTF-8

    struct Group {
      bool ignores_case;               // outside of it
      std::optional<std::size_t> run;  // where it begins in runs_, if it may be part of a run
    };

    [[noreturn]] void refuse(const std::string& what) const { throw Error(shown_ + what + "."); }

    [[noreturn]] void refuse_part(std::size_t begin, std::size_t size) const {
      refuse("has '" + excerpt(text_.substr(begin, size)) + "', which is not supported");
    }

    bool sees(std::string_view words) const { return text_.substr(at_).starts_with(words); }

    void copy(std::size_t size) {
      result_ += text_.substr(at_, size);
      at_ += size;
    }

    // Where case is ignored, the two differ in some letters.
    [[noreturn]] void refuse_folded(std::string_view part) const {
      refuse("ignores the case of '" + excerpt(part) +
             "', which Oniguruma does in a way that is not supported");
    }

    // The next `size` bytes of the expression stand for one character.
    void literal(std::string_view character, std::size_t size) {
      if (!ignores_case_) return;
      bool differs = letters_for_several().find(character) != std::string::npos;
      for (const auto& [one, other] : unknown_pairs())
        differs = differs || character == one || character == other;
      if (differs) refuse_folded(text_.substr(at_, size));
      if (is_repeated(at_ + size)) return end_run();
      runs_ += character;
    }

    // Whether what ends at `end` is repeated, by anything but {1}.
    bool is_repeated(std::size_t end) const {
      for (const std::string_view once : {"{1}", "{1,1}"}) {
        if (text_.substr(end).starts_with(once)) return is_repeated(end + once.size());
      }
      return end < text_.size() && std::string_view("*+?{").find(text_[end]) != std::string_view::npos;
    }

    // What follows is not part of the same run of characters.
    void end_run() {
      if (ignores_case_) runs_ += run_end;
    }

    // One letter might match a part of a run.
    void check_runs() const {
      for (std::size_t begin = 0; begin < runs_.size();) {
        const std::size_t end = std::min(runs_.find(run_end, begin), runs_.size());
        const std::string run = runs_.substr(begin, end - begin);
        if (several_letters().finds(run)) refuse_folded(run);
        begin = end + 1;
      }
    }

    // A group ends. If it holds a run of characters and nothing else, it is part of the run around it.
    void end_group() {
      if (outside_.empty()) return end_run();
      const Group group = outside_.back();
      outside_.pop_back();
      if (ignores_case_ && group.run && !is_repeated(at_ + 1) &&
          runs_.find(run_end, *group.run + 1) == std::string::npos)
        runs_.erase(*group.run, 1);
      else
        end_run();
      ignores_case_ = group.ignores_case;
    }

    // A class ends at at_. Oniguruma lets a letter in it match several, unless the class is negated, and adds
    // the other case of every character, even of those that a property matches.
    void check_class() const {
      const std::string_view part = text_.substr(class_text_, at_ + 1 - class_text_);
      const CaselessPattern whole(result_.substr(class_result_));
      if (!whole) return;
      bool differs = !part.starts_with("[^") && whole.finds(letters_for_several());
      const auto tells_apart = [](const CaselessPattern& some, const auto& pair) {
        return some.finds(pair[0]) != some.finds(pair[1]);
      };
      for (const auto& pair : unlike_pairs()) differs = differs || tells_apart(whole, pair);
      // Whether a property matches letters that PCRE2 does not know is no question of their case.
      if (const CaselessPattern letters("[" + class_letters_ + "]"); letters)
        for (const auto& pair : unknown_pairs()) differs = differs || tells_apart(letters, pair);
      if (differs) refuse_folded(part);
    }

    void next() {
      const char c = text_[at_];
      if (in_class_) return next_in_class(c);
      if (c == '\\') return escape();
      if (std::string_view("[](){}.|^$*+?").find(c) == std::string_view::npos) {
        const std::size_t size = character_size(at_);
        literal(text_.substr(at_, size), size);
        return copy(size);
      }
      if (c == '(') return group();
      if (c == ')') {
        end_group();
        return copy(1);
      }
      if (c != '{' || is_repeated(at_)) end_run();
      if (c == '{') return interval();
      copy(1);
      if (c != '[') return;
      in_class_ = true;
      class_text_ = at_ - 1;
      class_result_ = result_.size() - 1;
      class_letters_.clear();
      if (sees("^")) copy(1);
      if (sees("]")) refuse_part(at_ - 1, 2);
    }

    void next_in_class(char c) {
      if (c == '\\') return escape();
      // Oniguruma has nested classes and intersections of classes.
      if (c == '[' || sees("&&")) refuse_part(at_, 2);
      if (c != ']') class_letters_ += text_.substr(at_, character_size(at_));
      copy(character_size(at_));
      if (c != ']') return;
      in_class_ = false;
      --at_;
      if (ignores_case_) check_class();
      ++at_;
    }

    // The bytes of the character at a position.
    std::size_t character_size(std::size_t position) const {
      std::size_t size = 1;
      while (position + size < text_.size() && (text_[position + size] & 0xC0) == 0x80) ++size;
      return size;
    }

    void group() {
      if (sees("(*")) refuse_part(at_, 2);
      // Within an expression, the scope of an option ends elsewhere in Oniguruma than in PCRE2.
      if (at_ == 0 && sees("(?i)")) {
        ignores_case_ = true;
        return copy(4);
      }
      outside_.push_back({ignores_case_, std::nullopt});
      if (ignores_case_ && sees("(?:")) outside_.back().run = runs_.size();
      end_run();
      if (!sees("(?")) return copy(1);
      if (sees("(?i:")) ignores_case_ = true;
      for (const char* kind : {"(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?i:"})
        if (sees(kind)) return copy(std::string_view(kind).size());
      refuse_part(at_, 3);
    }

    // {2}, {2,}, {2,3}, of which the last two may be lazy. The two differ for {,3}, for {2}?, which is
    // optional in Oniguruma, and for a + after an interval.
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
      const bool is_letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
      if (!in_class_ && is_letter && c != 'x' && c != 'u') end_run();
      const auto put = [&](std::string_view words) {
        result_ += words;
        at_ += 2;
      };
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
      if (is_letter && std::string_view("dDnrtf").find(c) == std::string_view::npos) refuse_part(at_, 2);
      const std::size_t size = 1 + character_size(at_ + 1);
      if (!is_letter && !in_class_) literal(text_.substr(at_ + 1, size - 1), size);
      if (!is_letter && in_class_) class_letters_ += text_.substr(at_, size);
      copy(size);
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
      // Some versions of PCRE2 let \p{Lu} match both cases.
      if (ignores_case_ && !in_class_) result_ += "(?-i:";
      result_ += negated ? "\\P{" : "\\p{";
      if (name.size() > 2) result_ += "sc:";
      result_.append(name).push_back('}');
      if (ignores_case_ && !in_class_) result_.push_back(')');
      // U+0345 is a mark and the small form of a letter, so that these are incomplete without it.
      if (ignores_case_ && in_class_ && (name == "L" || name == "M" || name == "Mn")) result_ += "\\x{345}";
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
      if (significant.size() > 6) refuse_part(begin, size);
      if (!in_class_)
        literal(utf8_of(static_cast<char32_t>(std::stoul("0" + std::string(significant), nullptr, 16))),
                size);
      const std::string character = "\\x{" + std::string(digits) + "}";
      if (in_class_) class_letters_ += character;
      result_ += character;
      at_ += size;
    }

    static bool is_hexadecimal(char c) {
      return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
    }

    std::string_view text_;
    const std::string& shown_;
    std::string result_;
    std::size_t at_ = 0;
    bool in_class_ = false, ignores_case_ = false;
    std::size_t class_text_ = 0, class_result_ = 0;  // where the class begins
    std::string class_letters_;                      // what it holds besides properties
    std::string runs_;            // where case is ignored, the characters that stand for themselves
    std::vector<Group> outside_;  // the open groups
  };

  std::unique_ptr<pcre2_code, Free> code_;
  bool compiled_ = false;  // to machine code
};

}  // namespace lnfree
