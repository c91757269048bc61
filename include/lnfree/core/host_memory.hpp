#pragma once

#ifdef __linux__
#include <sys/resource.h>
#include <unistd.h>
#endif

#include <algorithm>
#include <cstddef>
#include <fstream>
#include <limits>
#include <string>

namespace lnfree {

/// How much memory this process can still take without swapping and within `ulimit -v`; a huge number where
/// the system does not say. The memory limit of a container is not considered.
inline std::size_t host_free_bytes() {
  std::size_t free = std::numeric_limits<std::size_t>::max();
#ifdef __linux__
  std::ifstream meminfo("/proc/meminfo");
  for (std::string line; std::getline(meminfo, line);) {
    if (line.starts_with("MemAvailable:")) free = std::stoull(line.substr(line.find(':') + 1)) << 10;
  }
  rlimit limit{};
  std::size_t pages = 0;
  if (getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
      std::ifstream("/proc/self/statm") >> pages) {
    const std::size_t used = pages * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    free = std::min(free, limit.rlim_cur > used ? limit.rlim_cur - used : 0);
  }
#endif
  return free;
}

}  // namespace lnfree
