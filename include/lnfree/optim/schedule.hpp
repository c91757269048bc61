#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <numbers>
#include <string>
#include <string_view>

#include <lnfree/core/error.hpp>

namespace lnfree {

/// The learning rate of every step of a run: schedule(step), step = 0, 1, ... Its name may be static or not.
template <class S>
concept Schedule = requires(const S schedule, std::int64_t step) {
  { schedule.name } -> std::convertible_to<std::string_view>;
  { schedule(step) } -> std::same_as<double>;
};

/// Linear warm-up to `peak` over W = ceil(warmup_ratio * steps) steps, then decay to `floor` as `Decay`
/// defines, as in the paper's code: step s = 0, 1, ... of the N uses peak s / W while s < W (so step 0 uses
/// 0), then floor + (peak - floor) decay((s - W) / (N - W)).
template <class Decay>
struct WarmupSchedule {
  static constexpr std::string_view name = Decay::name;

  double peak = 1e-3;          ///< The rate after the warm-up.
  double floor = 1e-7;         ///< The rate at the end.
  double warmup_ratio = 0.05;  ///< Share of the steps that warm up.
  std::int64_t steps = 1;      ///< Steps of the run.
  Decay decay = {};            ///< How the rate falls.

  /// Steps that warm up.
  std::int64_t warmup_steps() const {
    return static_cast<std::int64_t>(std::ceil(warmup_ratio * static_cast<double>(steps)));
  }

  /// The rate of step 0, 1, ...
  double operator()(std::int64_t step) const {
    const double s = static_cast<double>(step), warmup = static_cast<double>(warmup_steps());
    if (s < warmup) return peak * s / warmup;
    const double left = std::max(1.0, static_cast<double>(steps) - warmup);
    return floor + (peak - floor) * decay(std::min(1.0, (s - warmup) / left));
  }
};

/// A straight line from 1 at the end of the warm-up to 0 at the end of the run, as in the paper.
struct LinearDecay {
  static constexpr std::string_view name = "linear";
  /// What is left at `progress`, from 0 to 1.
  double operator()(double progress) const { return 1.0 - progress; }
};

/// Half a cosine (Loshchilov and Hutter, 2017).
struct CosineDecay {
  static constexpr std::string_view name = "cosine";
  /// What is left at `progress`, from 0 to 1.
  double operator()(double progress) const { return 0.5 * (1.0 + std::cos(std::numbers::pi * progress)); }
};

/// Constant, then a straight line over the last `ratio` of the steps: warmup-stable-decay (Hu et al.,
/// "MiniCPM", 2024).
struct StableDecay {
  static constexpr std::string_view name = "stable_decay";
  double ratio = 0.2;  ///< Share of the steps after the warm-up in which the rate falls.
  /// What is left at `progress`, from 0 to 1.
  double operator()(double progress) const { return std::min(1.0, (1.0 - progress) / ratio); }
};

using WarmupLinearSchedule = WarmupSchedule<LinearDecay>;  ///< Warm-up, then a straight line.
using WarmupCosineSchedule = WarmupSchedule<CosineDecay>;  ///< Warm-up, then half a cosine.
/// Warm-up, then constant, then a straight line.
using WarmupStableDecaySchedule = WarmupSchedule<StableDecay>;

/// The schedule named `name`, for programs that choose at run time.
struct ChosenSchedule {
  /// The names to choose from.
  static constexpr std::array<std::string_view, 3> names{LinearDecay::name, CosineDecay::name,
                                                         StableDecay::name};

  std::string name{LinearDecay::name};  ///< The name of the schedule.
  double peak = 1e-3;                   ///< The rate after the warm-up.
  double floor = 1e-7;                  ///< The rate at the end.
  double warmup_ratio = 0.05;           ///< Share of the steps that warm up.
  std::int64_t steps = 1;               ///< Of the run.

  /// Throws Error when there is no schedule of that name.
  double operator()(std::int64_t step) const {
    if (name == LinearDecay::name) return of<LinearDecay>(step);
    if (name == CosineDecay::name) return of<CosineDecay>(step);
    if (name == StableDecay::name) return of<StableDecay>(step);
    throw Error("there is no schedule " + name + "; choose linear, cosine or stable_decay");
  }

 private:
  template <class Decay>
  double of(std::int64_t step) const {
    return WarmupSchedule<Decay>{peak, floor, warmup_ratio, steps}(step);
  }
};

}  // namespace lnfree
