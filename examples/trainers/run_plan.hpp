#pragma once

#include <cstddef>
#include <functional>
#include <string>

#include <lnfree/core/json.hpp>
#include <lnfree/core/memory.hpp>
#include <lnfree/train/batch_split.hpp>

#include "trainer_options.hpp"

/// What a program will take of its device, computed before anything is allocated.
struct RunPlan {
  std::string device;      ///< Name of the device.
  std::size_t free_bytes;  ///< Free device memory.
  lnfree::BatchSplit batch;
  lnfree::MemoryPlan memory;  ///< Memory needed with the batch.
  int ranks = 1;              ///< Processes that do the same, each on its own device or part of one.

  std::string text() const;
  lnfree::Json json() const;
};

/// Memory that --step-windows leaves free, for kernels that are loaded at first use and for other programs.
inline constexpr std::size_t reserved_bytes = 500'000'000;

/// The plan of a run with `options` on each of `ranks` processes. The batch is that of the options. With
/// --step-windows it is the largest that fits, or that of the checkpoint of a resumed run, since another
/// would change the order of summation. Throws Error if the device has too little memory, naming a batch that
/// would fit.
RunPlan plan_run(const ProgramOptions& options, std::string device, std::size_t free_bytes, int ranks,
                 const std::function<lnfree::MemoryPlan(lnfree::BatchSplit)>& memory_of);
