#pragma once

#include <algorithm>
#include <array>
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
    for (Stack* const stack : idle_) switch_to(*stack);
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
    run_others();
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
    run_others();
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

  /// The scheduler's stack, or one on which threads run one after the other. A thread that waits keeps its
  /// stack.
  struct Stack {
    /// Gives a fiber the memory in `bytes`, whose location AddressSanitizer must be told.
    struct Allocator {
      char* bytes;
      boost::context::stack_context allocate() const {
        boost::context::stack_context whole;
        whole.size = stack_bytes;
        whole.sp = bytes + stack_bytes;
        return whole;
      }
      void deallocate(boost::context::stack_context&) const {}
    };
    std::unique_ptr<char[]> bytes;
    const void* bottom = bytes.get();
    std::size_t size = stack_bytes;
    boost::context::fiber left_at{};  // where its code continues
  };
  struct Thread {
    State state;
    Stack* stack;
    unsigned warp_waits, block_waits;
  };
  struct Warp {
    unsigned arrived;
    alignas(16) unsigned char values[2][warp_size * max_bytes];
  };

  void run_block(unsigned threads);
  bool run_warp(unsigned warp);
  Stack& idle_stack();
  Stack& next_stack();
  void run_others();
  void switch_to(Stack& stack);
  boost::context::fiber run_threads(boost::context::fiber before);

  std::mt19937_64 random_{lnfree::test::seed()};
  const std::function<void()>* kernel_ = nullptr;
  std::unique_ptr<unsigned char[]> shared_;
  std::vector<Thread> threads_;
  std::vector<Warp> warps_;
  // The running warp.
  std::array<unsigned, warp_size> order_;      // its threads, in the order of their turns
  unsigned unstarted_ = 0;                     // index in order_ of the next thread to start
  unsigned first_ = 0, turn_ = 0;              // where the present round began, and how many turns are over
  bool round_ran_ = false, warp_ran_ = false;  // whether a thread ran in this round, and since run_warp()
  unsigned current_ = 0;                       // the running thread
  unsigned block_arrived_ = 0;
  bool block_flag_[2] = {};
  std::vector<std::unique_ptr<Stack>> stacks_;
  std::vector<Stack*> idle_;
  Stack scheduler_;
  Stack* running_ = &scheduler_;
  Stack* before_ = nullptr;  // the one that ran before running_
  bool ending_ = false;
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
  unstarted_ = threads_[order_[0]].state == State::unstarted ? 0 : warp_size;
  first_ = 0;
  turn_ = warp_size;
  round_ran_ = true;
  warp_ran_ = false;
  run_others();
  return warp_ran_;
}

inline Simulator::Stack& Simulator::idle_stack() {
  if (idle_.empty()) {
    Stack& stack = *stacks_.emplace_back(new Stack{std::make_unique<char[]>(stack_bytes)});
    stack.left_at = boost::context::fiber(
        std::allocator_arg, Stack::Allocator{stack.bytes.get()},
        [this](boost::context::fiber before) { return run_threads(std::move(before)); });
    idle_.push_back(&stack);
  }
  Stack& stack = *idle_.back();
  idle_.pop_back();
  return stack;
}

/// The stack to switch to. As long as some threads of the warp have not been started, it is a free one, which
/// starts the next. After that the threads that can run have their turns, round by round. When none ran in a
/// round, it is the scheduler's.
inline Simulator::Stack& Simulator::next_stack() {
  if (unstarted_ < warp_size) return idle_stack();
  for (;;) {
    while (turn_ < warp_size) {
      const unsigned thread = order_[(first_ + turn_++) % warp_size];
      if (threads_[thread].state != State::ready) continue;
      round_ran_ = warp_ran_ = true;
      current_ = thread;
      threadIdx = {thread};
      return *threads_[thread].stack;
    }
    if (!round_ran_) return scheduler_;
    round_ran_ = false;
    turn_ = 0;
    first_ = (first_ + static_cast<unsigned>(random_() % warp_size)) % warp_size;
  }
}

inline void Simulator::run_others() {
  Stack& next = next_stack();
  if (&next != running_) switch_to(next);
}

inline void Simulator::switch_to(Stack& stack) {
  before_ = std::exchange(running_, &stack);
  void* kept = nullptr;
  begin_switch(&kept, stack.bottom, stack.size);
  boost::context::fiber left_at = std::move(stack.left_at).resume();
  // Reached when another thread or the scheduler switches back to this stack.
  end_switch(kept, &before_->bottom, &before_->size);
  before_->left_at = std::move(left_at);
}

inline boost::context::fiber Simulator::run_threads(boost::context::fiber before) {
  end_switch(nullptr, &before_->bottom, &before_->size);
  before_->left_at = std::move(before);
  while (!ending_) {
    while (unstarted_ < warp_size) {
      const unsigned thread = order_[unstarted_++];
      warp_ran_ = true;
      threads_[thread].stack = running_;
      current_ = thread;
      threadIdx = {thread};
      (*kernel_)();
      threads_[current_].state = State::finished;
    }
    idle_.push_back(running_);
    run_others();
  }
  before_ = std::exchange(running_, &scheduler_);
  begin_switch(nullptr, scheduler_.bottom, scheduler_.size);
  return std::move(scheduler_.left_at);
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
