#pragma once

#include <array>
#include <cstdlib>
#include <optional>
#include <string>

#include <lnfree/core/error.hpp>
#include <lnfree/core/parse_number.hpp>

namespace lnfree {

/// The number of this process among those of a launcher, from the environment.
struct LaunchedProcess {
  int rank = 0;        ///< Its number.
  int size = 1;        ///< The number of processes.
  int local_rank = 0;  ///< Its number among those on its machine.

  /// Reads the variables of Open MPI's mpirun, MPICH's mpirun, srun or torchrun. Those of torchrun, RANK,
  /// WORLD_SIZE and LOCAL_RANK, can also be set by hand. Without any it is a single process. Throws Error if
  /// a number is missing or invalid.
  static LaunchedProcess from_environment() {
    struct Launcher {
      const char *size, *rank, *local_rank;
    };
    // srun comes last, since it may have started one of the others.
    constexpr std::array<Launcher, 4> launchers{{
        {"OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK"},
        {"WORLD_SIZE", "RANK", "LOCAL_RANK"},
        {"PMI_SIZE", "PMI_RANK", "MPI_LOCALRANKID"},
        {"SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "SLURM_LOCALID"},
    }};
    for (const Launcher& names : launchers) {
      const std::optional<int> size = number(names.size);
      if (!size) continue;
      const std::optional<int> rank = number(names.rank), local_rank = number(names.local_rank);
      const LaunchedProcess found{rank.value_or(-1), *size, local_rank.value_or(-1)};
      if (found.size >= 1 && found.rank >= 0 && found.rank < found.size && found.local_rank >= 0 &&
          found.local_rank <= found.rank)
        return found;
      throw Error("the environment does not say which process this is: " + said(names.size) + ", " +
                  said(names.rank) + ", " + said(names.local_rank) +
                  "; start it with mpirun, srun or torchrun, or set all three");
    }
    return {};
  }

 private:
  static std::optional<int> number(const char* name) {
    const char* const text = std::getenv(name);
    if (text == nullptr) return std::nullopt;
    return parse_number<int>(text).value_or(-1);
  }

  static std::string said(const char* name) {
    const char* const text = std::getenv(name);
    return std::string(name) + (text == nullptr ? " is not set" : " is \"" + std::string(text) + "\"");
  }
};

}  // namespace lnfree
