#pragma once

#include <unistd.h>
#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string>
#include <utility>

#include "../terminal.hpp"

namespace prepare_corpus {

/// A progress line with the speed and the time left, redrawn on a terminal; elsewhere a line at every
/// quarter.
class Progress {
 public:
  /// Of `total` bytes.
  Progress(std::string what, std::int64_t total)
      : what_(std::move(what)), total_(std::max<std::int64_t>(total, 1)) {}

  void update(std::int64_t done) {
    const double share = static_cast<double>(std::min(done, total_)) / static_cast<double>(total_);
    const int percent = static_cast<int>(100 * share);
    if (terminal_) {
      if (seconds() - drawn_ >= 0.1) draw(done, share, percent);
    } else if (percent / 25 != shown_ / 25) {
      shown_ = percent;
      std::printf("%s: %d %%\n", what_.c_str(), percent);
      std::fflush(stdout);
    }
  }

  /// Excludes the first `done` bytes, which an earlier run did, from the speed.
  void begin_at(std::int64_t done) {
    begin_ = done;
    begin_seconds_ = seconds();
  }

  void finish(const std::string& result) {
    std::printf("%s%s: %s (%.1f s)\n", terminal_ ? "\r\033[K" : "", what_.c_str(), result.c_str(), seconds());
    std::fflush(stdout);
  }

 private:
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

  void draw(std::int64_t done, double share, int percent) {
    drawn_ = seconds();
    const double spent = std::max(drawn_ - begin_seconds_, 1e-3);
    const double rate = static_cast<double>(std::max<std::int64_t>(done - begin_, 1)) / spent;
    char numbers[80];
    std::snprintf(numbers, sizeof numbers, "%3d %%  %.1f MB/s  %s left", percent, rate / 1e6,
                  duration(static_cast<double>(std::max<std::int64_t>(total_ - done, 0)) / rate).c_str());
    // A wrapped line could not be redrawn; the last column is left free for the cursor.
    const std::size_t columns = terminal_columns() - 1;
    std::string text = what_ + ": " + numbers;
    text.resize(std::min(text.size(), columns));
    if (const std::size_t colon = what_.size() + 2; colon < text.size())
      text.insert(colon, bar(columns - text.size(), share));
    std::printf("\r\033[K%s", text.c_str());
    std::fflush(stdout);
  }

  std::string what_;
  std::int64_t total_, begin_ = 0;
  bool terminal_ = ::isatty(STDOUT_FILENO) != 0;
  int shown_ = 0;
  double drawn_ = -1, begin_seconds_ = 0;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace prepare_corpus
