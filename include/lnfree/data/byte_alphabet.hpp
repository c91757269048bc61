#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

/// GPT-2's alphabet of bytes, in which a tokenizer.json writes tokens of any bytes as text: printable bytes
/// represent themselves, the others are the characters from U+0100 on.
namespace lnfree::byte_alphabet {

/// The code point of a byte's character.
inline unsigned code_of(unsigned byte) {
  const auto is_printable = [](unsigned b) {
    return (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || (b >= 174 && b <= 255);
  };
  if (is_printable(byte)) return byte;
  unsigned code = 256;
  for (unsigned before = 0; before < byte; ++before) code += !is_printable(before);
  return code;
}

/// A byte's character in UTF-8.
inline std::string character_of(unsigned byte) {
  const unsigned code = code_of(byte);
  if (code < 0x80) return {static_cast<char>(code)};
  return {static_cast<char>(0xC0 | code >> 6), static_cast<char>(0x80 | (code & 63))};
}

/// The bytes that a token's characters represent, or nothing if one of them represents none.
inline std::optional<std::string> bytes_of(std::string_view token) {
  static const std::array<int, 512> byte_of = [] {
    std::array<int, 512> table{};
    table.fill(-1);
    for (unsigned byte = 0; byte < 256; ++byte) table[code_of(byte)] = static_cast<int>(byte);
    return table;
  }();
  std::string bytes;
  for (std::size_t at = 0; at < token.size();) {
    const auto c = static_cast<unsigned char>(token[at]);
    unsigned code = c;
    if (c >= 0x80) {
      if (c >> 5 != 6 || at + 1 == token.size()) return std::nullopt;
      code = (c & 31u) << 6 | (static_cast<unsigned char>(token[at + 1]) & 63u);
    }
    at += c < 0x80 ? 1 : 2;
    if (code >= byte_of.size() || byte_of[code] < 0) return std::nullopt;
    bytes += static_cast<char>(byte_of[code]);
  }
  return bytes;
}

}  // namespace lnfree::byte_alphabet
