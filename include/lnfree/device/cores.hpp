#pragma once

#include <omp.h>
#ifdef __linux__
#include <sys/mman.h>
#endif

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <string>

#include <lnfree/core/error.hpp>
#include <lnfree/core/host_memory.hpp>
#include <lnfree/core/tensor.hpp>

namespace lnfree {

/// What every device has in common that computes on the processor's cores, and derives from this: memory and
/// OpenMP threads. How many threads: OMP_NUM_THREADS or omp_set_num_threads().
struct Cores {
  /// Threads for which scratch memory is planned: those at hand when the device is made. More later on do not
  /// help.
  int planned_threads = omp_get_max_threads();
  /// Bytes of logits that the output head makes at a time.
  static constexpr Index logits_bytes = Index{4} << 20;  // those of a small vocabulary stay in a cache
};

/// Memory of `bytes` bytes, aligned for vectors; throws Error where there is none.
inline void* allocate(Cores&, std::size_t bytes) {
  // Large blocks begin at a large page, so that the system can back them with such: products walk across many
  // small ones at once.
  constexpr std::size_t large_page = std::size_t{1} << 21;
  const std::size_t alignment = bytes < large_page ? 64 : large_page;
  const std::size_t whole = (bytes + alignment - 1) / alignment * alignment;
  void* memory = std::aligned_alloc(alignment, whole);
  if (memory == nullptr) throw Error("out of memory: " + std::to_string(bytes) + " bytes were asked for");
#ifdef __linux__
  if (alignment == large_page) madvise(memory, whole, MADV_HUGEPAGE);  // a wish: without it all works as well
#endif
  return memory;
}

/// Gives back what allocate() returned.
inline void deallocate(Cores&, void* memory) {
  std::free(memory);
}
/// Sets `bytes` bytes to zero.
inline void fill_zero(Cores&, void* memory, std::size_t bytes) {
  std::memset(memory, 0, bytes);
}
/// Copies `bytes` bytes from the host's memory.
inline void copy_to_device(Cores&, void* to, const void* from, std::size_t bytes) {
  std::memcpy(to, from, bytes);
}
/// Copies `bytes` bytes to the host's memory.
inline void copy_to_host(Cores&, void* to, const void* from, std::size_t bytes) {
  std::memcpy(to, from, bytes);
}
/// Waits until all work is done, which it always is here.
inline void synchronize(Cores&) {}
/// Bytes of memory that are free, as far as is known.
inline std::size_t free_bytes(Cores&) {
  return host_free_bytes();
}
/// What the device is called in output.
inline std::string device_name(Cores& device) {
  return "CPU, " + std::to_string(device.planned_threads) +
         (device.planned_threads == 1 ? " thread" : " threads");
}

/// body(begin, end), compiled once: of two copies, one for a single thread and one for several, the compiler
/// may round one otherwise than the other.
template <class Body>
#if defined(__clang__)
[[gnu::noinline]]
#else
[[gnu::noinline, gnu::noclone]]
#endif
void run_part(const Body& body, Index begin, Index end) {
  body(begin, end);
}

/// Calls body(begin, end) on each thread's part of [0, count), one part for each thread, none smaller than
/// `grain` if it can be helped. Parts begin at multiples of `align`.
template <class Body>
void parallel_for(Index count, Index grain, const Body& body, Index align = 1,
                  Index max_threads = omp_get_max_threads()) {
  const Index wanted = std::max(Index{1}, count / std::max(Index{1}, grain));
  const int threads = static_cast<int>(std::min({max_threads, Index{omp_get_max_threads()}, wanted}));
  if (threads == 1) {
    run_part(body, Index{0}, count);
    return;
  }
  const Index units = (count + align - 1) / align;
#pragma omp parallel num_threads(threads)
  {
    const Index thread = omp_get_thread_num(), team = omp_get_num_threads();
    const Index begin = units * thread / team * align;
    const Index end = std::min(count, units * (thread + 1) / team * align);
    if (begin < end) run_part(body, begin, end);
  }
}

/// Numbers worth a thread of their own in an elementwise loop.
inline constexpr Index elementwise_grain = 16384;

/// The same as a number of rows of `cols`.
inline Index row_grain(Index cols) {
  return std::max(Index{1}, elementwise_grain / std::max(Index{1}, cols));
}

}  // namespace lnfree
