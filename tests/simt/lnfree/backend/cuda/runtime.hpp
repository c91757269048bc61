#pragma once

#include <cmath>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <type_traits>

#include <lnfree/core/error.hpp>
#include <lnfree/core/tensor.hpp>

#include "simt/simt.hpp"

/// In place of the library's header of this name: a GPU whose memory is the host's and whose kernels run in
/// the simulator.
namespace lnfree::cuda {

class Stream {
 public:
  void* allocate(std::size_t bytes) {
    void* const memory = bytes > free_bytes() ? nullptr : std::aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (memory == nullptr) {
      throw Error("out of GPU memory: " + std::to_string(bytes) + " bytes were asked for, " +
                  std::to_string(free_bytes()) + " are free");
    }
    taken_[memory] = bytes;
    return memory;
  }
  void deallocate(void* memory) {
    taken_.erase(memory);
    std::free(memory);
  }
  std::size_t free_bytes() const {
    std::size_t free = std::size_t{1} << 30;
    for (const auto& [memory, bytes] : taken_) free -= bytes;
    return free;
  }
  std::string device_name() const { return "simulated GPU"; }
  void fill_zero(void* memory, std::size_t bytes) { std::memset(memory, 0, bytes); }
  void copy_to_device(void* to, const void* from, std::size_t bytes) { std::memcpy(to, from, bytes); }
  void copy_to_host(void* to, const void* from, std::size_t bytes) { std::memcpy(to, from, bytes); }
  void copy_on_device(void* to, const void* from, std::size_t bytes) { std::memcpy(to, from, bytes); }

  template <class... Parameters>
  void launch(void (*kernel)(Parameters...), Index blocks, int threads, std::size_t shared_bytes,
              std::type_identity_t<Parameters>... arguments) {
    simt::Simulator::instance().run(static_cast<unsigned>(blocks), static_cast<unsigned>(threads),
                                    shared_bytes, [&] { kernel(arguments...); });
  }

 private:
  std::map<void*, std::size_t> taken_;  // bytes of each block that was not given back
};

template <class T>
T* shared_memory() {
  return reinterpret_cast<T*>(simt::Simulator::instance().shared());
}

}  // namespace lnfree::cuda
