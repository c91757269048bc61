#pragma once

#include <charconv>
#include <optional>
#include <string_view>
#include <system_error>

namespace lnfree {

/// The number that the whole of `text` is, in decimal; nothing if it is anything else or beyond the range of
/// T.
template <class T>
std::optional<T> parse_number(std::string_view text) {
  T value{};
  const char* const end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, value);
  if (result.ec != std::errc() || result.ptr != end) return std::nullopt;
  return value;
}

}  // namespace lnfree
