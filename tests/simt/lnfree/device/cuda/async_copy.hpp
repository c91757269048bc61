#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <vector>

#include <lnfree/device/cuda/runtime.hpp>

/// In place of the library's header of this name: nothing is copied before a thread waits for it.
namespace lnfree::cuda {

struct BegunCopy {
  void* shared;
  const void* global;  // nullptr: zeros
};
inline std::map<unsigned, std::vector<BegunCopy>> begun_copies;  // of each thread of the running block

inline void begin_copy(void* shared, const void* global, bool there) {
  const auto misplaced = [](const void* at) { return reinterpret_cast<std::uintptr_t>(at) % 16 != 0; };
  if (misplaced(shared) || (there && misplaced(global))) std::abort();  // as the instruction would
  begun_copies[threadIdx.x].push_back({shared, there ? global : nullptr});
}

inline void wait_for_copies() {
  for (const BegunCopy& copy : begun_copies[threadIdx.x]) {
    if (copy.global == nullptr) {
      std::memset(copy.shared, 0, 16);
    } else {
      std::memcpy(copy.shared, copy.global, 16);
    }
  }
  begun_copies[threadIdx.x].clear();
}

}  // namespace lnfree::cuda
