#pragma once

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <system_error>

namespace lnfree::cpu {

/// Lets threads that wait for each other sleep after some microseconds, so that programs which share the
/// cores do not keep each other from working: by default OpenMP's threads spin for milliseconds, and two
/// trainings on the same cores take many times as long as one after the other. OpenMP's runtime reads its
/// settings when the program is loaded, so the program is started again, once, with them in its environment:
/// to be called first in main(), with its argv. Does nothing when the environment says how to wait
/// (OMP_WAIT_POLICY, GOMP_SPINCOUNT, KMP_BLOCKTIME or KMP_LIBRARY), as it does after the first call, or when
/// the program cannot be started again.
inline void share_cores(char** argv) {
#ifdef __linux__
  for (const char* setting : {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY"}) {
    if (std::getenv(setting) != nullptr) return;
  }
  std::error_code error;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
  // Of a program that was started as an argument of the loader, this is the loader.
  if (error || program.filename().string().starts_with("ld-")) return;
  // With libgomp, about as long as it takes to wake a thread: a longer wait costs the others more than a
  // sleep costs this program. With clang's libomp, which counts milliseconds, not at all.
  if (setenv("GOMP_SPINCOUNT", "1000", 1) != 0 || setenv("KMP_BLOCKTIME", "0", 1) != 0) return;
  execv(program.c_str(), argv);
#else
  (void)argv;
#endif
}

}  // namespace lnfree::cpu
