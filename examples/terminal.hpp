#pragma once

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <string>

/// 75 as "1:15", 3675 as "1:01:15".
inline std::string duration(double seconds) {
  const auto all = static_cast<long long>(seconds + 0.5);
  char text[48];
  if (all >= 3600) {
    std::snprintf(text, sizeof(text), "%lld:%02lld:%02lld", all / 3600, all / 60 % 60, all % 60);
  } else {
    std::snprintf(text, sizeof(text), "%lld:%02lld", all / 60, all % 60);
  }
  return text;
}

/// Columns of the terminal, 80 if unknown.
inline std::size_t terminal_columns() {
  struct winsize size{};
  return ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

/// "[###.....] " in at most `columns`, or nothing if that is too short to be useful.
inline std::string bar(std::size_t columns, double share) {
  if (columns < 8) return "";
  const std::size_t cells = std::min<std::size_t>(columns - 3, 20);
  const auto filled = static_cast<std::size_t>(static_cast<double>(cells) * share);
  std::string text(cells + 3, '.');
  std::fill_n(text.begin() + 1, filled, '#');
  text.front() = '[';
  text.replace(cells + 1, 2, "] ");
  return text;
}
