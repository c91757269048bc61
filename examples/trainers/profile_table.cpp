#include "profile_table.hpp"

#include <algorithm>
#include <cstdio>

ProfileTable::ProfileTable(const lnfree::Profile& profile, int steps, double seconds)
    : steps_(steps), step_milliseconds_(1e3 * seconds / steps) {
  double inside = 0;
  for (const auto& [name, entry] : profile.entries()) {
    inside += entry.seconds;
    rows_.push_back({name, static_cast<double>(entry.calls) / steps, 1e3 * entry.seconds / steps,
                     entry.seconds / seconds, entry.work.operations * 1e-9 / entry.seconds,
                     entry.work.moved() * 1e-9 / entry.seconds});
  }
  std::sort(rows_.begin(), rows_.end(),
            [](const Row& a, const Row& b) { return a.milliseconds > b.milliseconds; });
  const double outside = seconds - inside;
  rows_.push_back({"outside the primitives", 0, 1e3 * outside / steps, outside / seconds, 0, 0});
}

std::string ProfileTable::text() const {
  std::string text;
  char line[160];
  const auto add = [&](const char* format, auto... values) {
    std::snprintf(line, sizeof(line), format, values...);
    text += line;
  };
  add("%-50s %8s %9s %7s %9s %8s\n", "primitive", "calls", "ms", "share", "GFLOP/s", "GB/s");
  double gemm_share = 0;
  for (const Row& row : rows_) {
    if (row.name.starts_with("gemm")) gemm_share += row.share;
    add("%-50s %8.4g %9.3f %6.1f%% %9.1f %8.1f\n", row.name.c_str(), row.calls, row.milliseconds,
        100 * row.share, row.gflops, row.gbytes_per_second);
  }
  add("%-50s %8s %9.3f %6.1f%%  mean of %d; products take %.1f%%\n", "a step", "", step_milliseconds_, 100.0,
      steps_, 100 * gemm_share);
  return text;
}

lnfree::Json ProfileTable::json() const {
  lnfree::Json primitives = lnfree::Json::array();
  for (const Row& row : rows_) {
    primitives.push_back({{"name", row.name},
                          {"calls_per_step", row.calls},
                          {"milliseconds_per_step", row.milliseconds},
                          {"share", row.share},
                          {"gflops", row.gflops},
                          {"gbytes_per_second", row.gbytes_per_second}});
  }
  return {{"steps", steps_}, {"milliseconds_per_step", step_milliseconds_}, {"primitives", primitives}};
}
