#pragma once

#include <cstddef>
#include <functional>
#include <string>

#include <lnfree/core/json.hpp>
#include <lnfree/core/memory.hpp>
#include <lnfree/train/batch_split.hpp>

#include "trainer_options.hpp"

/// What a program is about to take of its device, known before anything is taken.
struct RunPlan {
  std::string device;      ///< Its name.
  std::size_t free_bytes;  ///< Of the device's memory.
  lnfree::BatchSplit batch;
  lnfree::MemoryPlan memory;  ///< With that batch.
  int ranks = 1;              ///< Processes that do the same on devices of their own or parts of one.

  std::string text() const;
  lnfree::Json json() const;
};

/// What --step-windows leaves free: kernels are loaded as they are first used, and other programs want some.
inline constexpr std::size_t reserved_bytes = 500'000'000;

/// The plan of what `options` ask for, on each of `ranks` processes. The batch is theirs; with --step-windows
/// it is the largest that fits, or that of the checkpoint that a run goes on from, since another would change
/// the order of its sums. Throws Error where the device has too little memory, saying which batch would fit.
RunPlan plan_run(const ProgramOptions& options, std::string device, std::size_t free_bytes, int ranks,
                 const std::function<lnfree::MemoryPlan(lnfree::BatchSplit)>& memory_of);
