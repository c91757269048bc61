#pragma once

#include <vector>

#include "trainer_options.hpp"

/// The command-line options of the removal of a model's norms, if they are removed.
template <class Trainer>
struct RemovalFlags {
  decltype(Trainer::Parts::removal) options{};

  /// The options as flags, which the command line may change.
  std::vector<PartOption> list() {
    std::vector<PartOption> list;
    if constexpr (Trainer::removes_norms) {
      options.for_each(options, [&](const char* name, auto& value, const char* help) {
        list.push_back({name, &value, help});
      });
    }
    return list;
  }
};
