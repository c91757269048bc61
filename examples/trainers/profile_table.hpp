#pragma once

#include <string>
#include <vector>

#include <lnfree/core/json.hpp>
#include <lnfree/device/profiled.hpp>

/// Where the time of training steps went, one row for each primitive and its sizes, the longest first.
class ProfileTable {
 public:
  /// `seconds` is the time of all `steps`; what the primitives did not take of it gets a row too.
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
