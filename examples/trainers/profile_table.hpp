#pragma once

#include <string>
#include <vector>

#include <lnfree/core/json.hpp>
#include <lnfree/device/profiled.hpp>

/// Where the time of training steps is spent: one row for each primitive and its sizes, the longest first.
class ProfileTable {
 public:
  /// `seconds` is the time of all `steps`; the time outside the primitives has its own row.
  ProfileTable(const lnfree::Profile& profile, int steps, double seconds);

  std::string text() const;
  lnfree::Json json() const;

 private:
  struct Row {
    std::string name;
    double calls;  ///< In a step.
    double milliseconds;
    double share;  ///< Of the step's time.
    double gflops;
    double gbytes_per_second;
  };

  int steps_;
  double step_milliseconds_;
  std::vector<Row> rows_;
};
