#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace lnfree {

/// Text of at most `Capacity` characters built at compile time, for the name of a policy with parameters:
/// names distinguish architectures.
template <std::size_t Capacity>
class FixedText {
 public:
  constexpr FixedText& operator<<(std::string_view text) {
    for (const char c : text) characters_[size_++] = c;
    return *this;
  }
  constexpr FixedText& operator<<(std::intmax_t number) {
    if (number < 0) *this << "-";
    std::intmax_t power = 1;
    while (number / power >= 10 || number / power <= -10) power *= 10;
    for (; power > 0; power /= 10) {
      const std::intmax_t digit = number / power % 10;
      characters_[size_++] = static_cast<char>('0' + (digit < 0 ? -digit : digit));
    }
    return *this;
  }

  /// The text so far.
  constexpr std::string_view view() const { return {characters_.data(), size_}; }

 private:
  std::array<char, Capacity> characters_{};
  std::size_t size_ = 0;
};

}  // namespace lnfree
