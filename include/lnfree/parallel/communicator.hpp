#pragma once

#include <sched.h>

#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include <lnfree/core/error.hpp>

namespace lnfree {

/// Processes that train one model together: the ranks 0, 1, ..., size() - 1. All ranks call the same members
/// in the same order; a member that waits for the others throws Error after its time limit.
///
///   max_leaves       the maximum number of parts of a step's passes, a power of two
///   rank(), size()
///   local_size()     how many of the ranks share this machine and its memory
///   gather(own)      the numbers of all ranks in rank order; each rank gives the same count
///   broadcast(data, bytes, root)   the bytes of rank `root`, on all ranks
///   exchange(partner, send, send_bytes, receive, receive_bytes)   swaps bytes with another rank
///   barrier()        returns when all ranks have called it
///   bytes_sent()     what this rank has sent by exchange() so far
///   seconds_waited() the total time of its calls so far
///
/// If GPUs can reach each other's memory, there are two more members: exchange_on_device(stream, ...), an
/// asynchronous exchange() of GPU memory on a stream, and finish(stream), which waits for it.
template <class C>
concept Communicator = std::copyable<C> && requires(const C ranks, std::span<const double> own, void* to,
                                                    const void* from, std::size_t bytes, int rank) {
  { C::max_leaves } -> std::convertible_to<int>;
  { ranks.rank() } -> std::same_as<int>;
  { ranks.size() } -> std::same_as<int>;
  { ranks.local_size() } -> std::same_as<int>;
  { ranks.gather(own) } -> std::same_as<std::vector<double>>;
  ranks.broadcast(to, bytes, rank);
  ranks.exchange(rank, from, bytes, to, bytes);
  ranks.barrier();
  { ranks.bytes_sent() } -> std::same_as<std::uint64_t>;
  { ranks.seconds_waited() } -> std::same_as<double>;
};

/// A single process, without any code for communication.
struct SingleProcess {
  static constexpr int max_leaves = 1;
  static constexpr int rank() { return 0; }
  static constexpr int size() { return 1; }
  static constexpr int local_size() { return 1; }
  static std::vector<double> gather(std::span<const double> own) { return {own.begin(), own.end()}; }
  static void broadcast(void*, std::size_t, int) {}
  static void exchange(int, const void*, std::size_t, void*, std::size_t) {}
  static void barrier() {}
  static std::uint64_t bytes_sent() { return 0; }
  static double seconds_waited() { return 0; }
};

/// Whether a program may run as several processes.
template <class C>
inline constexpr bool has_ranks = C::max_leaves > 1;

/// Whether ranks can exchange device memory directly.
template <class C>
concept ExchangesOnDevice = Communicator<C> && requires(const C ranks, typename C::Stream stream, void* to,
                                                        const void* from, std::size_t bytes, int rank) {
  ranks.exchange_on_device(stream, rank, from, bytes, to, bytes);
  ranks.finish(stream);
};

/// Calls done() until it returns true, and returns the seconds that took. Throws Error, naming `whom`, after
/// `limit` seconds.
template <class Done>
double wait_for(const std::string& whom, double limit, const Done& done) {
  using Clock = std::chrono::steady_clock;
  const auto start = Clock::now();
  const auto waited = [&] { return std::chrono::duration<double>(Clock::now() - start).count(); };
  while (!done()) {
    const double seconds = waited();
    if (seconds > limit) {
      char text[32];
      std::snprintf(text, sizeof(text), "%.3g", seconds);
      throw Error("waited " + std::string(text) + " s for " + whom +
                  ", longer than the time limit: a process hangs or its machine is gone; resume from the "
                  "last checkpoint, with a longer limit if a pass or a checkpoint takes that long");
    }
    // The process that is waited for may need the core.
    if (seconds < 2e-3) {
      sched_yield();
    } else {
      std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
  }
  return waited();
}

/// Thrown on all ranks, with the same message, when one of them has failed.
class SharedError : public Error {
 public:
  using Error::Error;
};

/// Whether a condition is true on any rank.
template <Communicator C>
bool on_any_rank(const C& ranks, bool holds) {
  if constexpr (!has_ranks<C>) return holds;
  const double own = holds ? 1 : 0;
  for (const double one : ranks.gather(std::span(&own, 1))) holds = holds || one != 0;
  return holds;
}

/// Calls body() on every rank. If it throws on one, all ranks throw a SharedError with the message of the
/// lowest such rank, so that none waits for a rank that has failed.
template <Communicator C, class Body>
void on_all_ranks(const C& ranks, const Body& body) {
  if constexpr (!has_ranks<C>) {
    body();
  } else {
    std::string fault;
    try {
      body();
    } catch (const std::exception& error) {
      fault = error.what();
      if (fault.empty()) fault = "an error without a description";
    }
    const auto size = static_cast<double>(fault.size());
    const std::vector<double> sizes = ranks.gather(std::span(&size, 1));
    for (std::size_t rank = 0; rank < sizes.size(); ++rank) {
      if (sizes[rank] == 0) continue;
      fault.resize(static_cast<std::size_t>(sizes[rank]));
      ranks.broadcast(fault.data(), fault.size(), static_cast<int>(rank));
      throw SharedError((rank == 0 ? "" : "rank " + std::to_string(rank) + ": ") + fault);
    }
  }
}

}  // namespace lnfree
