#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include <lnfree/core/utf8.hpp>

namespace lnfree {

/// Any bytes as UTF-8 on one line: control characters and bytes that are not UTF-8 become `\xHH`. Paths are
/// written to JSON and to messages in this form, because a file name may hold any bytes.
inline std::string printable(std::string_view text) {
  constexpr std::string_view digits = "0123456789abcdef";
  std::string result;
  for (std::size_t position = 0; position < text.size();) {
    const std::size_t length = utf8_length(text, position);
    const auto byte = static_cast<unsigned char>(text[position]);
    if (length == 0 || byte < 0x20 || byte == 0x7F) {
      result += {'\\', 'x', digits[byte >> 4], digits[byte & 15]};
      ++position;
    } else {
      result.append(text, position, length);
      position += length;
    }
  }
  return result;
}

/// Text of unknown origin for use in a message: printable(), and if longer than `max_bytes` only its start
/// and end, with three dots between them.
inline std::string excerpt(std::string_view text, std::size_t max_bytes = 300) {
  const std::size_t head = max_bytes * 2 / 3, tail = max_bytes - head;
  if (text.size() <= max_bytes) return printable(text);
  const auto continues = [&](std::size_t at) { return (text[at] & 0xC0) == 0x80; };
  std::size_t head_end = head, tail_begin = text.size() - tail;
  for (int i = 0; i < 3 && head_end > 0 && continues(head_end); ++i) --head_end;
  for (int i = 0; i < 3 && tail_begin < text.size() && continues(tail_begin); ++i) ++tail_begin;
  return printable(text.substr(0, head_end)) + "..." + printable(text.substr(tail_begin));
}

}  // namespace lnfree
