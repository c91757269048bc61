#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <vector>

#include <lnfree/device/cuda/runtime.hpp>

/// In place of the library's header of this name: a copy destroys what it will overwrite as soon as it
/// begins, and ends when a thread waits for it. A real one does both at any time in between.
namespace lnfree::cuda {

struct BegunCopy {
  void* shared;
  const void* global;  // nullptr: zeros
};
struct BegunCopies {
  std::vector<BegunCopy> copies;
  std::vector<std::size_t> group_ends;  // how many copies there were at the end of each group
};
inline std::map<unsigned, BegunCopies> begun_copies;  // of each thread of the running block

inline void begin_copy(void* shared, const void* global, bool there) {
  const auto misplaced = [](const void* at) { return reinterpret_cast<std::uintptr_t>(at) % 16 != 0; };
  if (misplaced(shared) || (there && misplaced(global))) std::abort();  // as the instruction would
  std::memset(shared, 0xff, 16);                                        // NaN
  begun_copies[threadIdx.x].copies.push_back({shared, there ? global : nullptr});
}

inline void end_copy_group() {
  BegunCopies& mine = begun_copies[threadIdx.x];
  mine.group_ends.push_back(mine.copies.size());
}

/// Ends a thread's first `count` copies.
inline void end_copies(BegunCopies& mine, std::size_t count) {
  for (std::size_t n = 0; n < count; ++n) {
    const BegunCopy& copy = mine.copies[n];
    if (copy.global == nullptr) {
      std::memset(copy.shared, 0, 16);
    } else {
      std::memcpy(copy.shared, copy.global, 16);
    }
  }
  mine.copies.erase(mine.copies.begin(), mine.copies.begin() + static_cast<std::ptrdiff_t>(count));
  for (std::size_t& end : mine.group_ends) end -= std::min(end, count);
}

template <int Latest>
void wait_for_copy_groups() {
  BegunCopies& mine = begun_copies[threadIdx.x];
  const auto groups = static_cast<int>(mine.group_ends.size());
  if (groups <= Latest) return;
  end_copies(mine, mine.group_ends[static_cast<std::size_t>(groups - Latest - 1)]);
  mine.group_ends.erase(mine.group_ends.begin(), mine.group_ends.end() - Latest);
}

inline void wait_for_copies() {
  BegunCopies& mine = begun_copies[threadIdx.x];
  end_copies(mine, mine.copies.size());
  mine.group_ends.clear();
}

}  // namespace lnfree::cuda
