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

/// The base of all devices that compute on the processor's cores: memory and OpenMP threads. The number of
/// threads is set by OMP_NUM_THREADS or omp_set_num_threads().
struct Cores {
  /// Threads for which scratch memory is planned: the number of threads when the device is constructed.
  /// Raising it later does not help.
  int planned_threads = omp_get_max_threads();
  /// Bytes of logits that the output head computes at a time.
  static constexpr Index logits_bytes = Index{4} << 20;  // with a small vocabulary they stay in cache
};

/// Memory of `bytes` bytes, aligned for vectors; throws Error if there is not enough.
inline void* allocate(Cores&, std::size_t bytes) {
  // Large blocks are aligned so that the system can back them with large pages: products access many small
  // pages at once.
  constexpr std::size_t large_page = std::size_t{1} << 21;
  const std::size_t alignment = bytes < large_page ? 64 : large_page;
  const std::size_t whole = (bytes + alignment - 1) / alignment * alignment;
  void* memory = std::aligned_alloc(alignment, whole);
  if (memory == nullptr) throw Error("out of memory: " + std::to_string(bytes) + " bytes were requested");
#ifdef __linux__
  if (alignment == large_page) madvise(memory, whole, MADV_HUGEPAGE);  // a hint; failure is harmless
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
/// Copies `bytes` bytes from host memory.
inline void copy_to_device(Cores&, void* to, const void* from, std::size_t bytes) {
  std::memcpy(to, from, bytes);
}
/// Copies `bytes` bytes to host memory.
inline void copy_to_host(Cores&, void* to, const void* from, std::size_t bytes) {
  std::memcpy(to, from, bytes);
}
/// Does nothing: all work is already done.
inline void synchronize(Cores&) {}
/// Bytes of free memory, as far as is known.
inline std::size_t free_bytes(Cores&) {
  return host_free_bytes();
}
/// The name of the device for output.
inline std::string device_name(Cores& device) {
  return "CPU, " + std::to_string(device.planned_threads) +
         (device.planned_threads == 1 ? " thread" : " threads");
}

/// Calls body(begin, end). Not inlined, because the compiler might round differently in separate copies for
/// one thread and for several.
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
/// `grain` if possible. Parts begin at multiples of `align`.
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

/// How many elements of an elementwise loop are worth a thread.
inline constexpr Index elementwise_grain = 16384;

/// The same in rows of `cols` elements.
inline Index row_grain(Index cols) {
  return std::max(Index{1}, elementwise_grain / std::max(Index{1}, cols));
}

/// Calls body(begin, end) for parts of the columns of a matrix (rows, cols). Threads share the columns, so a
/// sum over the rows of each column has the same order for any number of threads.
template <class Body>
void for_column_parts(Index rows, Index cols, const Body& body) {
  constexpr Index align = 16;
  parallel_for(cols, std::max(align, row_grain(rows)), body, align);
}

}  // namespace lnfree
