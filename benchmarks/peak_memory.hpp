#pragma once

#include <malloc.h>

#include <fstream>
#include <string>

/// The most memory that this process held at a time (Linux).
namespace benchmarks {

/// Starts to count anew, from what is held now.
inline void reset_peak_rss() {
  malloc_trim(0);
  std::ofstream("/proc/self/clear_refs") << "5";
}

/// In 10^6 bytes, since the last reset; since the start of the process where the system allows no reset.
inline double peak_rss_mb() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    double kibibytes = 0;
    if (word == "VmHWM:" && status >> kibibytes) return kibibytes * 1024e-6;
  }
  return 0;
}

}  // namespace benchmarks
