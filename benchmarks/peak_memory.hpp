#pragma once

#include <malloc.h>

#include <fstream>
#include <string>

/// Peak memory of this process (Linux).
namespace benchmarks {

/// Resets the peak to the present size.
inline void reset_peak_rss() {
  malloc_trim(0);
  std::ofstream("/proc/self/clear_refs") << "5";
}

/// In 10^6 bytes since the last reset, or since the start of the process if the system does not allow a
/// reset.
inline double peak_rss_mb() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    double kibibytes = 0;
    if (word == "VmHWM:" && status >> kibibytes) return kibibytes * 1024e-6;
  }
  return 0;
}

}  // namespace benchmarks
