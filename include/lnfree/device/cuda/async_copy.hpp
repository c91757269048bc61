#pragma once

#include <lnfree/device/cuda/runtime.hpp>

/// Copies from global to shared memory that run while the thread goes on. The tests put a header of the same
/// name in front of this one.
namespace lnfree::cuda {

/// Begins to copy 16 bytes, or to write zeros if `there` is false. Both addresses are multiples of 16.
__device__ inline void begin_copy(void* shared, const void* global, bool there) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(
                   static_cast<unsigned>(__cvta_generic_to_shared(shared))),
               "l"(__cvta_generic_to_global(global)), "r"(there ? 16 : 0)
               : "memory");
}

/// Makes a group of the copies that this thread has begun since its last group.
__device__ inline void end_copy_group() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}

/// Waits for this thread's groups of copies but the last `Latest`. Other threads see them after a barrier.
template <int Latest>
__device__ void wait_for_copy_groups() {
  asm volatile("cp.async.wait_group %0;" ::"n"(Latest) : "memory");
}

/// Waits for the copies that this thread began. Other threads see them after a barrier.
__device__ inline void wait_for_copies() {
  asm volatile("cp.async.wait_all;" ::: "memory");
}

}  // namespace lnfree::cuda
