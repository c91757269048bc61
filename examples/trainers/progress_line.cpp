#include "progress_line.hpp"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <string>

#include "../terminal.hpp"

ProgressLine::ProgressLine(bool may_redraw) : terminal_(may_redraw && ::isatty(STDOUT_FILENO) == 1) {}

ProgressLine::~ProgressLine() {
  finish();
}

void ProgressLine::show(const lnfree::Progress& p) {
  const double now =
      std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
  if (terminal_ ? now - last_drawn_ < 0.1 && p.step != p.steps : !p.logged) return;
  last_drawn_ = now;
  char numbers[160];
  std::snprintf(numbers, sizeof(numbers), "loss %.4f  lr %.1e  grad %.3f  %.0f tok/s  %s left", p.loss,
                p.learning_rate, p.gradient_norm, p.tokens_per_second, duration(p.seconds_left).c_str());
  const long long step = p.step, steps = p.steps;
  if (!terminal_) {
    std::printf("step %lld/%lld  %s\n", step, steps, numbers);
    std::fflush(stdout);
    return;
  }
  // A wrapped line could not be redrawn; the last column is left free for the cursor.
  const std::size_t columns = terminal_columns() - 1;
  std::string text = std::to_string(step) + "/" + std::to_string(steps) + "  " + numbers;
  text.resize(std::min(text.size(), columns));
  text.insert(0, bar(columns - text.size(), static_cast<double>(p.step) / static_cast<double>(p.steps)));
  std::printf("\r\x1b[K%s", text.c_str());
  std::fflush(stdout);
  drawn_ = true;
  if (step == steps) finish();
}

void ProgressLine::message(const std::string& text) {
  if (drawn_) std::printf("\r\x1b[K");
  drawn_ = false;
  std::printf("%s\n", text.c_str());
  std::fflush(stdout);
}

void ProgressLine::finish() {
  if (drawn_) std::printf("\n");
  drawn_ = false;
}
