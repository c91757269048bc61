#include "run_plan.hpp"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <utility>

#include <lnfree/core/error.hpp>
#include <lnfree/train/checkpoint.hpp>

namespace {

std::string megabytes(std::size_t bytes) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.1f MB", static_cast<double>(bytes) / 1e6);
  return text;
}

/// The split of the run in --out. Throws Error if its steps do not have --step-windows windows.
lnfree::BatchSplit split_of_checkpoint(const ProgramOptions& options) {
  const auto folder = options.out / "checkpoint";
  const lnfree::Json state = lnfree::read_checkpoint_state(folder);
  const lnfree::Json course = state.value("course", lnfree::Json::object());
  constexpr std::int64_t max = std::numeric_limits<int>::max();
  const std::int64_t batch_size = lnfree::checkpoint_count(folder, course, "batch_size", max);
  const std::int64_t accumulate = lnfree::checkpoint_count(folder, course, "accumulate", max);
  if (batch_size * accumulate != options.step_windows) {
    throw lnfree::Error(folder.string() + " was made with steps of " +
                        std::to_string(batch_size * accumulate) + " windows, not " +
                        std::to_string(options.step_windows) + "; resume with the same --step-windows");
  }
  return {static_cast<int>(batch_size), static_cast<int>(accumulate)};
}

}  // namespace

std::string RunPlan::text() const {
  return "memory: parameters " + megabytes(memory.parameters) + ", gradients " + megabytes(memory.gradients) +
         ", optimizer " + megabytes(memory.optimizer) + ", activations " + megabytes(memory.activations) +
         (memory.teacher > 0 ? ", teacher " + megabytes(memory.teacher) : "") + ", total " +
         megabytes(memory.total()) + " of " + megabytes(free_bytes) + " free on " + device +
         "\nbatch: " + std::to_string(batch.batch_size) +
         " windows in a pass, passes in a step: " + std::to_string(batch.accumulate) +
         (ranks > 1 ? "\nranks: " + std::to_string(ranks) + ", each with that memory and " +
                          std::to_string(batch.accumulate / ranks) + " of the passes"
                    : "") +
         "\n";
}

lnfree::Json RunPlan::json() const {
  lnfree::Json bytes{{"parameters", memory.parameters},
                     {"gradients", memory.gradients},
                     {"optimizer", memory.optimizer},
                     {"activations", memory.activations},
                     {"total", memory.total()}};
  if (memory.teacher > 0) bytes["teacher"] = memory.teacher;
  return {{"device", device},
          {"free_bytes", free_bytes},
          {"batch_size", batch.batch_size},
          {"accumulate", batch.accumulate},
          {"ranks", ranks},
          {"bytes", bytes}};
}

RunPlan plan_run(const ProgramOptions& options, std::string device, std::size_t free_bytes, int ranks,
                 const std::function<lnfree::MemoryPlan(lnfree::BatchSplit)>& memory_of) {
  const std::int64_t windows = options.step_windows > 0
                                   ? options.step_windows
                                   : std::int64_t{options.training.batch_size} * options.training.accumulate;
  const auto memory_with = [&](int batch_size) {
    return memory_of({batch_size, static_cast<int>(windows / batch_size)}).total();
  };
  // A split that the ranks cannot share is treated as too large.
  const auto bytes_needed = [&](int batch_size) {
    const bool is_shared = windows / batch_size % ranks == 0;
    return is_shared ? memory_with(batch_size) : std::numeric_limits<std::size_t>::max();
  };
  const auto too_little = [&](int batch_size, const std::string& advice) {
    return lnfree::Error("with " + std::to_string(batch_size) + " windows in a pass this needs " +
                         megabytes(memory_with(batch_size)) + ", but " + megabytes(free_bytes) +
                         " are free on " + device + advice);
  };
  const std::string none_does = "; no smaller batch fits: end other programs that use its memory";

  lnfree::BatchSplit batch{options.training.batch_size, options.training.accumulate};
  if (options.step_windows > 0 && options.resume) {
    batch = split_of_checkpoint(options);
  } else if (options.step_windows > 0) {
    if (windows % ranks != 0) memory_with(1);  // throws Error: no split can be shared
    const std::size_t available = free_bytes - std::min(free_bytes, reserved_bytes);
    const auto largest = lnfree::largest_split(options.step_windows, available, bytes_needed);
    if (!largest)
      throw too_little(1, ", " + megabytes(reserved_bytes) + " of them kept in reserve" + none_does);
    batch = *largest;
  }

  const lnfree::MemoryPlan memory = memory_of(batch);
  if (memory.total() > free_bytes) {
    if (options.resume) {
      throw too_little(batch.batch_size,
                       "; a resumed run must keep its batch: end other programs that use its memory");
    }
    const auto fits = lnfree::largest_split(windows, free_bytes, bytes_needed);
    if (!fits) throw too_little(batch.batch_size, none_does);
    std::string advice = "; the largest that fits is --batch-size " + std::to_string(fits->batch_size);
    if (!options.evaluate_only) {
      advice += ", with --accumulate " + std::to_string(fits->accumulate) + " for the same step";
    }
    throw too_little(batch.batch_size, advice);
  }
  return {std::move(device), free_bytes, batch, memory, ranks};
}
