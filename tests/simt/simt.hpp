#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <numeric>
#include <random>
#include <utility>
#include <vector>

#include <boost/context/fiber.hpp>
#ifdef LNFREE_SANITIZE
#include <sanitizer/common_interface_defs.h>
#endif

#include "support/seed.hpp"

/// Runs kernels on the host as a GPU would: the threads of a block are fibers. One warp at a time runs as far
/// as it can without the others, with its lanes taking turns, all in a new random order each time, so that a
/// missing barrier changes a kernel's results. Shared memory starts as NaN and has its exact size, so that
/// AddressSanitizer detects accesses beyond it. A barrier that some threads never reach ends the program.
///
/// This header defines the CUDA names that kernels use.
namespace simt {

struct Dim {
  unsigned x = 0;
};

/// AddressSanitizer must be informed of each switch between stacks: before it, of the new stack's location,
/// and after it, of the data saved for the stack now in use. It returns the location of the previous stack.
#ifdef LNFREE_SANITIZE
inline void begin_switch(void** kept, const void* bottom, std::size_t bytes) {
  __sanitizer_start_switch_fiber(kept, bottom, bytes);
}
inline void end_switch(void* kept, const void** bottom, std::size_t* bytes) {
  __sanitizer_finish_switch_fiber(kept, bottom, bytes);
}
#else
inline void begin_switch(void**, const void*, std::size_t) {}
inline void end_switch(void*, const void**, std::size_t*) {}
#endif

class Simulator {
 public:
  static constexpr unsigned warp_size = 32;

  static Simulator& instance() {
    static Simulator simulator;
    return simulator;
  }
  Simulator(const Simulator&) = delete;
  Simulator& operator=(const Simulator&) = delete;
  ~Simulator() {
    ending_ = true;
    for (Fiber* const fiber : idle_) switch_to(*fiber);
  }

  /// Runs `kernel` in every thread of every block, blocks in a random order.
  void run(unsigned blocks, unsigned threads, std::size_t shared_bytes, const std::function<void()>& kernel);

  unsigned char* shared() const { return shared_.get(); }

  /// Waits for all threads of the block; returns whether any passed `flag`.
  bool wait_for_block(bool flag) {
    Thread& me = threads_[current_];
    const unsigned parity = me.block_waits++ % 2;
    block_flag_[parity] |= flag;
    me.state = State::at_block;
    if (++block_arrived_ == threads_.size()) {
      block_arrived_ = 0;
      block_flag_[1 - parity] = false;  // all have read it
      for (Thread& thread : threads_) thread.state = State::ready;
    }
    switch_to_scheduler();
    return block_flag_[parity];
  }

  /// Waits for all lanes of the warp; returns what each lane passed, valid until the wait after the next. The
  /// last lane to arrive first passes the 32 values to `combine`.
  template <class T, class Combine>
  const T* exchange(const T& mine, const Combine& combine) {
    static_assert(sizeof(T) <= max_bytes);
    Thread& me = threads_[current_];
    Warp& warp = warps_[current_ / warp_size];
    auto* const all = reinterpret_cast<T*>(warp.values[me.warp_waits++ % 2]);
    all[current_ % warp_size] = mine;
    me.state = State::at_warp;
    if (++warp.arrived == warp_size) {
      warp.arrived = 0;
      combine(all);
      for (unsigned lane = 0; lane < warp_size; ++lane) {
        threads_[current_ / warp_size * warp_size + lane].state = State::ready;
      }
    }
    switch_to_scheduler();
    return all;
  }

  template <class T>
  const T* exchange(const T& mine) {
    return exchange(mine, [](T*) {});
  }

  unsigned lane() const { return current_ % warp_size; }

 private:
  Simulator() = default;
  enum class State { unstarted, ready, at_warp, at_block, finished };

  static constexpr std::size_t max_bytes = 48, stack_bytes = 128 << 10;

  /// A stack on which threads run, one after the other unless one waits.
  struct Fiber {
    /// At a known location, for AddressSanitizer; the fiber owns it.
    struct Stack {
      char* bytes;
      boost::context::stack_context allocate() const {
        boost::context::stack_context whole;
        whole.size = stack_bytes;
        whole.sp = bytes + stack_bytes;
        return whole;
      }
      void deallocate(boost::context::stack_context&) const {}
    };
    std::unique_ptr<char[]> stack{new char[stack_bytes]};
    boost::context::fiber where{std::allocator_arg, Stack{stack.get()}, [](boost::context::fiber scheduler) {
                                  return instance().run_threads(std::move(scheduler));
                                }};
  };
  struct Thread {
    State state;
    Fiber* fiber;
    unsigned warp_waits, block_waits;
  };
  struct Warp {
    unsigned arrived;
    alignas(16) unsigned char values[2][warp_size * max_bytes];
  };

  void run_block(unsigned threads);
  bool run_warp(unsigned warp);
  void switch_to_scheduler();
  void switch_to(Fiber& fiber);
  void start_next();
  boost::context::fiber run_threads(boost::context::fiber scheduler);

  std::mt19937_64 random_{lnfree::test::seed()};
  const std::function<void()>* kernel_ = nullptr;
  std::unique_ptr<unsigned char[]> shared_;
  std::vector<Thread> threads_;
  std::vector<Warp> warps_;
  std::vector<unsigned> order_;  // of the threads of the running warp
  std::size_t next_ = 0;         // thread to start, in order_
  unsigned current_ = 0;
  unsigned block_arrived_ = 0;
  bool block_flag_[2] = {};
  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::vector<Fiber*> idle_;
  Fiber* running_ = nullptr;
  bool ending_ = false;
  boost::context::fiber scheduler_;
  const void* scheduler_stack_ = nullptr;
  std::size_t scheduler_stack_bytes_ = 0;
};

}  // namespace simt

inline simt::Dim threadIdx, blockIdx, blockDim, gridDim;

namespace simt {

inline void Simulator::run(unsigned blocks, unsigned threads, std::size_t shared_bytes,
                           const std::function<void()>& kernel) {
  if (threads == 0 || threads % warp_size != 0 || threads > 1024 || shared_bytes > (99u << 10)) {
    std::fprintf(stderr, "a GPU would not launch %u threads with %zu bytes of shared memory\n", threads,
                 shared_bytes);
    std::abort();
  }
  kernel_ = &kernel;
  shared_.reset(static_cast<unsigned char*>(::operator new[](shared_bytes)));
  gridDim = {blocks};
  blockDim = {threads};
  std::vector<unsigned> order(blocks);
  std::iota(order.begin(), order.end(), 0u);
  std::shuffle(order.begin(), order.end(), random_);
  for (const unsigned block : order) {
    blockIdx = {block};
    std::memset(shared_.get(), 0xff, shared_bytes);
    run_block(threads);
  }
}

inline void Simulator::run_block(unsigned threads) {
  threads_.assign(threads, {State::unstarted, nullptr, 0, 0});
  warps_.resize(threads / warp_size);
  for (Warp& warp : warps_) warp.arrived = 0;
  block_arrived_ = 0;
  block_flag_[0] = block_flag_[1] = false;
  std::vector<unsigned> warps(warps_.size());
  std::iota(warps.begin(), warps.end(), 0u);
  order_.resize(warp_size);
  const auto waits = [](const Thread& thread) { return thread.state != State::finished; };
  while (std::any_of(threads_.begin(), threads_.end(), waits)) {
    bool moved = false;
    std::shuffle(warps.begin(), warps.end(), random_);
    for (const unsigned warp : warps) moved |= run_warp(warp);
    if (!moved) {
      std::fprintf(stderr, "block %u: threads wait at a barrier that others never reach\n", blockIdx.x);
      std::abort();
    }
  }
}

/// Runs a warp until all its threads wait for other warps or have finished; returns whether any ran.
inline bool Simulator::run_warp(unsigned warp) {
  std::iota(order_.begin(), order_.end(), warp * warp_size);
  std::shuffle(order_.begin(), order_.end(), random_);
  bool ever_moved = threads_[order_[0]].state == State::unstarted;
  if (ever_moved) {
    for (next_ = 0; next_ < warp_size;) start_next();
  }
  for (bool moved = true; moved; ever_moved |= moved) {
    moved = false;
    std::rotate(order_.begin(), order_.begin() + static_cast<std::ptrdiff_t>(random_() % warp_size),
                order_.end());
    for (const unsigned thread : order_) {
      if (threads_[thread].state != State::ready) continue;
      moved = true;
      current_ = thread;
      threadIdx = {thread};
      switch_to(*threads_[thread].fiber);
    }
  }
  return ever_moved;
}

/// Starts threads on an idle stack until one waits.
inline void Simulator::start_next() {
  if (idle_.empty()) idle_.push_back(fibers_.emplace_back(std::make_unique<Fiber>()).get());
  Fiber* const fiber = idle_.back();
  idle_.pop_back();
  switch_to(*fiber);
}

inline void Simulator::switch_to(Fiber& fiber) {
  running_ = &fiber;
  void* kept = nullptr;
  begin_switch(&kept, fiber.stack.get(), stack_bytes);
  fiber.where = std::move(fiber.where).resume();
  end_switch(kept, nullptr, nullptr);
}

inline void Simulator::switch_to_scheduler() {
  void* kept = nullptr;
  begin_switch(&kept, scheduler_stack_, scheduler_stack_bytes_);
  scheduler_ = std::move(scheduler_).resume();
  end_switch(kept, &scheduler_stack_, &scheduler_stack_bytes_);
}

inline boost::context::fiber Simulator::run_threads(boost::context::fiber scheduler) {
  scheduler_ = std::move(scheduler);
  end_switch(nullptr, &scheduler_stack_, &scheduler_stack_bytes_);
  while (!ending_) {
    while (next_ < order_.size()) {
      const unsigned thread = order_[next_++];
      threads_[thread].fiber = running_;
      current_ = thread;
      threadIdx = {thread};
      (*kernel_)();
      threads_[current_].state = State::finished;
    }
    idle_.push_back(running_);
    switch_to_scheduler();
  }
  begin_switch(nullptr, scheduler_stack_, scheduler_stack_bytes_);
  return std::move(scheduler_);
}

/// Lane l reads what lane `source(l)` of the warp passed.
template <class T>
T shuffle(const T& value, unsigned source) {
  return Simulator::instance().exchange(value)[source];
}

}  // namespace simt

#define __global__
#define __device__
#define __launch_bounds__(...)

inline void __syncthreads() {
  simt::Simulator::instance().wait_for_block(false);
}
inline int __syncthreads_or(int flag) {
  return simt::Simulator::instance().wait_for_block(flag != 0);
}
inline void __syncwarp() {
  simt::Simulator::instance().exchange(0);
}

/// All lanes take part, which is the only mask that the kernels use.
template <class T>
T __shfl_xor_sync(unsigned /*mask*/, T value, int lanes) {
  return simt::shuffle(value, simt::Simulator::instance().lane() ^ static_cast<unsigned>(lanes));
}
template <class T>
T __shfl_sync(unsigned /*mask*/, T value, int lane) {
  return simt::shuffle(value, static_cast<unsigned>(lane));
}
inline unsigned __ballot_sync(unsigned /*mask*/, bool flag) {
  const bool* const flags = simt::Simulator::instance().exchange(flag);
  unsigned bits = 0;
  for (unsigned lane = 0; lane < 32; ++lane) bits |= static_cast<unsigned>(flags[lane]) << lane;
  return bits;
}

inline int __popc(unsigned bits) {
  return std::popcount(bits);
}
inline float __expf(float x) {
  return std::exp(x);
}
inline float cospif(float x) {
  return static_cast<float>(std::cos(M_PI * static_cast<double>(x)));
}
inline float sinpif(float x) {
  return static_cast<float>(std::sin(M_PI * static_cast<double>(x)));
}
/// Not atomic, since one thread runs at a time.
inline int atomicMin(int* at, int value) {
  return std::exchange(*at, std::min(*at, value));
}
inline unsigned atomicMax(unsigned* at, unsigned value) {
  return std::exchange(*at, std::max(*at, value));
}
inline unsigned atomicAdd(unsigned* at, unsigned value) {
  return std::exchange(*at, *at + value);
}
