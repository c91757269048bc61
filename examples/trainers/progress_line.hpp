#pragma once

#include <string>

#include <lnfree/train/trainer.hpp>

/// Shows how a run goes: one line redrawn in place on a terminal, a plain line for each logged step
/// elsewhere.
class ProgressLine {
 public:
  ProgressLine();

  void show(const lnfree::Progress& progress);

  /// A line that stays.
  void message(const std::string& text);

 private:
  void clear();

  bool terminal_;
  bool drawn_ = false;
  double last_drawn_ = -1;  // seconds
};
