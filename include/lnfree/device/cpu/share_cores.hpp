#pragma once

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <system_error>

namespace lnfree::cpu {

/// Makes OpenMP's waiting threads sleep after some microseconds, so that programs can share the cores. By
/// default they spin for milliseconds, and two trainings on the same cores take many times as long as one
/// after the other. OpenMP's runtime reads its settings when the program is loaded, so this restarts the
/// program once with the settings in its environment. Call it first in main(), with argv. It does nothing if
/// the environment already says how to wait (OMP_WAIT_POLICY, GOMP_SPINCOUNT, KMP_BLOCKTIME or KMP_LIBRARY),
/// as it does after the restart, or if the program cannot be restarted.
inline void share_cores(char** argv) {
#ifdef __linux__
  for (const char* setting : {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY"}) {
    if (std::getenv(setting) != nullptr) return;
  }
  std::error_code error;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
  // If the program was started through the dynamic loader, this is the loader.
  if (error || program.filename().string().starts_with("ld-")) return;
  // With libgomp, spin about as long as it takes to wake a thread: spinning longer costs other programs more
  // than sleeping costs this one. With clang's libomp, which counts in milliseconds, do not spin at all.
  if (setenv("GOMP_SPINCOUNT", "1000", 1) != 0 || setenv("KMP_BLOCKTIME", "0", 1) != 0) return;
  execv(program.c_str(), argv);
#else
  (void)argv;
#endif
}

}  // namespace lnfree::cpu
