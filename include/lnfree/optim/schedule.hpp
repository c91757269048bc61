#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace lnfree {

/// Linear warm-up to `peak` over ceil(warmup_ratio * steps) steps, then linear decay to `floor`, as in the
/// paper's code: step s = 0, 1, ... of the N uses peak s / W while s < W (so step 0 uses 0), then floor +
/// (peak - floor) (1 - (s - W) / (N - W)).
struct WarmupLinearSchedule {
  double peak = 1e-3;
  double floor = 1e-7;
  double warmup_ratio = 0.05;
  std::int64_t steps = 1;

  std::int64_t warmup_steps() const {
    return static_cast<std::int64_t>(std::ceil(warmup_ratio * static_cast<double>(steps)));
  }

  double operator()(std::int64_t step) const {
    const double s = static_cast<double>(step), warmup = static_cast<double>(warmup_steps());
    if (s < warmup) return peak * s / warmup;
    const double left = std::max(1.0, static_cast<double>(steps) - warmup);
    return floor + (peak - floor) * std::max(0.0, 1.0 - (s - warmup) / left);
  }
};

}  // namespace lnfree
