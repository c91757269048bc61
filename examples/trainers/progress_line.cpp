#include "progress_line.hpp"

#include <unistd.h>

#include <chrono>
#include <cstdio>

namespace {

/// 75 as "1:15", 3675 as "1:01:15".
std::string duration(double seconds) {
  const auto all = static_cast<long long>(seconds + 0.5);
  char text[48];
  if (all >= 3600) {
    std::snprintf(text, sizeof(text), "%lld:%02lld:%02lld", all / 3600, all / 60 % 60, all % 60);
  } else {
    std::snprintf(text, sizeof(text), "%lld:%02lld", all / 60, all % 60);
  }
  return text;
}

}  // namespace

ProgressLine::ProgressLine() : terminal_(::isatty(STDOUT_FILENO) == 1) {}

void ProgressLine::show(const lnfree::Progress& p) {
  const double now =
      std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
  if (terminal_ ? now - last_drawn_ < 0.1 && p.step != p.steps : !p.logged) return;
  last_drawn_ = now;
  char numbers[160];
  std::snprintf(numbers, sizeof(numbers), "loss %.4f  lr %.2e  grad %.3f  %.0f tok/s  %s left", p.loss,
                p.learning_rate, p.gradient_norm, p.tokens_per_second, duration(p.seconds_left).c_str());
  const long long step = p.step, steps = p.steps;
  if (!terminal_) {
    std::printf("step %lld/%lld  %s\n", step, steps, numbers);
    std::fflush(stdout);
    return;
  }
  constexpr int cells = 20;
  const auto filled = static_cast<std::size_t>(cells * step / steps);
  const std::string bar = std::string(filled, '#') + std::string(cells - filled, '.');
  std::printf("\r\x1b[K[%s] %lld/%lld  %s", bar.c_str(), step, steps, numbers);
  std::fflush(stdout);
  drawn_ = true;
  if (step == steps) clear();
}

void ProgressLine::message(const std::string& text) {
  if (terminal_ && drawn_) std::printf("\r\x1b[K");
  std::printf("%s\n", text.c_str());
  std::fflush(stdout);
}

void ProgressLine::clear() {
  if (drawn_) std::printf("\n");
  drawn_ = false;
}
