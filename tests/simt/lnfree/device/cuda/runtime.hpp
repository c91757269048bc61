#pragma once

#include <cmath>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <lnfree/core/error.hpp>
#include <lnfree/core/tensor.hpp>
#include <lnfree/device/cuda/staging.hpp>

#include "simt/simt.hpp"

/// In place of the library's header of this name: a GPU whose memory is the host's and whose kernels run in
/// the simulator.
namespace lnfree::cuda {

/// The recorded work, in order.
class Graph {
 public:
  Graph() = default;
  explicit Graph(std::vector<std::function<void()>> work) : work_(std::move(work)) {}

  explicit operator bool() const { return !work_.empty(); }
  void run() const {
    for (const auto& part : work_) part();
  }

 private:
  std::vector<std::function<void()>> work_;
};

/// How often each kernel has run.
inline std::map<void (*)(), int> runs_of_kernels;
template <class... Parameters>
int& runs_of(void (*kernel)(Parameters...)) {
  return runs_of_kernels[reinterpret_cast<void (*)()>(kernel)];
}

/// What tests may have the GPU be.
inline int simulated_capability = 90;

class Stream {
 public:
  void* allocate(std::size_t bytes) {
    expect_nothing_recorded("memory");
    void* const memory = bytes > free_bytes() ? nullptr : std::aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (memory == nullptr) {
      throw Error("out of GPU memory: " + std::to_string(bytes) + " bytes were asked for, " +
                  std::to_string(free_bytes()) + " are free");
    }
    taken_[memory] = bytes;
    return memory;
  }
  void deallocate(void* memory) {
    make_copies();
    taken_.erase(memory);
    std::free(memory);
  }
  std::size_t free_bytes() const {
    std::size_t free = std::size_t{1} << 30;
    for (const auto& [memory, bytes] : taken_) free -= bytes;
    return free;
  }
  std::string device_name() const { return "simulated GPU"; }
  int compute_capability() const { return simulated_capability; }
  void fill_zero(void* memory, std::size_t bytes) {
    now_or_later([=] { std::memset(memory, 0, bytes); });
  }
  /// Made as late as a GPU may make it: when the next work begins, or when the program waits.
  void copy_to_device(void* to, const void* from, std::size_t bytes) {
    expect_nothing_recorded("a copy to the device");
    const void* const staged = staging_.keep(from, bytes);
    copies_.push_back([=, now = staged != nullptr ? staged : from] { std::memcpy(to, now, bytes); });
    if (staged == nullptr) synchronize();
  }
  void copy_to_host(void* to, const void* from, std::size_t bytes) {
    expect_nothing_recorded("a copy to the host");
    synchronize();
    std::memcpy(to, from, bytes);
  }

  void synchronize() {
    expect_nothing_recorded("a wait for the device");
    make_copies();
    staging_.clear();
  }

  template <class Body>
  Graph record(const Body& body) {
    std::vector<std::function<void()>> work;
    recorded_ = &work;
    try {
      body();
    } catch (...) {
      recorded_ = nullptr;
      throw;
    }
    recorded_ = nullptr;
    return Graph(std::move(work));
  }
  void launch(const Graph& graph) {
    make_copies();
    graph.run();
  }

  template <class... Parameters>
  void launch(void (*kernel)(Parameters...), Index blocks, int threads, std::size_t shared_bytes,
              std::type_identity_t<Parameters>... arguments) {
    now_or_later([=] {
      ++runs_of(kernel);
      simt::Simulator::instance().run(static_cast<unsigned>(blocks), static_cast<unsigned>(threads),
                                      shared_bytes, [&] { kernel(arguments...); });
    });
  }

  /// Does a part of the work, or stores it in the graph that is being recorded.
  template <class Part>
  void now_or_later(const Part& part) {
    if (recorded_ == nullptr) {
      make_copies();
      part();
    } else {
      recorded_->emplace_back(part);
    }
  }

 private:
  void make_copies() {
    for (const auto& copy : std::exchange(copies_, {})) copy();
  }

  /// A GPU refuses to wait or allocate memory while a graph is recorded.
  void expect_nothing_recorded(const char* what) const {
    if (recorded_ != nullptr) throw Error(std::string(what) + " was asked for while a graph is recorded");
  }

  std::vector<std::function<void()>>* recorded_ = nullptr;
  std::map<void*, std::size_t> taken_;  // bytes of each block that is still allocated
  std::vector<std::function<void()>> copies_;
  std::vector<unsigned char> host_memory_ = std::vector<unsigned char>(Staging::size);
  Staging staging_{host_memory_.data()};
};

template <class T>
T* shared_memory() {
  return reinterpret_cast<T*>(simt::Simulator::instance().shared());
}

}  // namespace lnfree::cuda
