#pragma once

#include <string>

#include <lnfree/train/trainer.hpp>

/// Shows the progress of a run: one line redrawn in place on a terminal, a plain line for each logged step
/// elsewhere.
class ProgressLine {
 public:
  /// `may_redraw` is false if the process' terminal is not the user's.
  explicit ProgressLine(bool may_redraw = true);
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;
  ~ProgressLine();

  void show(const lnfree::Progress& progress);

  /// Prints a permanent line.
  void message(const std::string& text);

 private:
  /// Ends the redrawn line.
  void finish();

  bool terminal_;
  bool drawn_ = false;
  double last_drawn_ = -1;  // seconds
};
