#pragma once

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <string>

#include <lnfree/core/error.hpp>
#include <lnfree/core/host_memory.hpp>
#include <lnfree/core/tensor.hpp>

namespace lnfree::reference {

/// The oracle: every primitive as plain loops over its formula, in float or double, one thread. Slow, and
/// written to be read; the other devices are tested against it.
template <class S>
struct Reference {
  using Scalar = S;
  using Accumulator = S;
  static constexpr Index logits_bytes = Index{4} << 20;
};

template <class S>
void* allocate(Reference<S>&, std::size_t bytes) {
  void* memory = std::aligned_alloc(64, (bytes + 63) / 64 * 64);
  if (memory == nullptr) throw Error("out of memory: " + std::to_string(bytes) + " bytes were asked for");
  return memory;
}

template <class S>
void deallocate(Reference<S>&, void* memory) {
  std::free(memory);
}

template <class S>
void fill_zero(Reference<S>&, void* memory, std::size_t bytes) {
  std::memset(memory, 0, bytes);
}

template <class S>
void copy_to_device(Reference<S>&, void* to, const void* from, std::size_t bytes) {
  std::memcpy(to, from, bytes);
}

template <class S>
void copy_to_host(Reference<S>&, void* to, const void* from, std::size_t bytes) {
  std::memcpy(to, from, bytes);
}


template <class S>
void synchronize(Reference<S>&) {}

template <class S>
std::size_t free_bytes(Reference<S>&) {
  return host_free_bytes();
}

template <class S>
std::string device_name(Reference<S>&) {
  return "CPU, plain loops";
}

}  // namespace lnfree::reference

namespace lnfree {
using reference::Reference;
}  // namespace lnfree
