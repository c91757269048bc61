#pragma once

#include <string>

#include <lnfree/train/trainer.hpp>

/// Shows how a run goes: one line redrawn in place on a terminal, a plain line for each logged step
/// elsewhere.
class ProgressLine {
 public:
  /// `may_redraw` is false where the terminal that a process sees is not the user's.
  explicit ProgressLine(bool may_redraw = true);
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;
  ~ProgressLine();

  void show(const lnfree::Progress& progress);

  /// A line that stays.
  void message(const std::string& text);

 private:
  /// Leaves the drawn line standing.
  void finish();

  bool terminal_;
  bool drawn_ = false;
  double last_drawn_ = -1;  // seconds
};
