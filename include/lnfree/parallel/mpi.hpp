#pragma once

// Only the C interface; the C++ one is no longer part of MPI.
#ifndef OMPI_SKIP_MPICXX
#define OMPI_SKIP_MPICXX 1
#endif
#ifndef MPICH_SKIP_MPICXX
#define MPICH_SKIP_MPICXX 1
#endif
#include <mpi.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <lnfree/parallel/communicator.hpp>

namespace lnfree {

/// The processes started by mpirun, srun or the like; without a launcher, this process alone. It is a handle:
/// copies refer to the same processes. The first handle initializes MPI, unless that has been done, and the
/// last one to be destroyed finalizes it. Only one thread may use it at a time.
class Mpi {
 public:
  /// Results have the same bits for any number of ranks up to this one.
  static constexpr int max_leaves = 64;

  /// `time_limit` is how many seconds a call waits for other ranks before it throws Error. It must exceed the
  /// time of a pass, and of writing a checkpoint on rank 0.
  explicit Mpi(double time_limit = 600) : session_(std::make_shared<Session>()) {
    set_time_limit(time_limit);
  }

  /// Sets the time limit, as in the constructor.
  void set_time_limit(double seconds) const { session_->time_limit = seconds; }

  int rank() const { return session_->rank; }
  int size() const { return session_->size; }
  /// Number of this rank among those on its machine.
  int local_rank() const { return session_->local_rank; }
  int local_size() const { return session_->local_size; }
  std::uint64_t bytes_sent() const { return session_->bytes_sent; }
  double seconds_waited() const { return session_->seconds_waited; }

  std::vector<double> gather(std::span<const double> own) const {
    std::vector<double> all(own.size() * static_cast<std::size_t>(size()));
    const int count = static_cast<int>(own.size());
    wait("the other ranks", [&](MPI_Request* request) {
      MPI_Iallgather(own.data(), count, MPI_DOUBLE, all.data(), count, MPI_DOUBLE, MPI_COMM_WORLD, request);
    });
    return all;
  }

  void broadcast(void* data, std::size_t bytes, int root) const {
    in_pieces(bytes, [&](std::size_t first, int count) {
      wait("rank " + std::to_string(root), [&](MPI_Request* request) {
        MPI_Ibcast(static_cast<std::byte*>(data) + first, count, MPI_BYTE, root, MPI_COMM_WORLD, request);
      });
    });
  }

  void exchange(int partner, const void* send, std::size_t send_bytes, void* receive,
                std::size_t receive_bytes) const {
    const std::string whom = "rank " + std::to_string(partner);
    MPI_Request sent = MPI_REQUEST_NULL;
    in_pieces(std::max(send_bytes, receive_bytes), [&](std::size_t first, int count) {
      const int sends = piece_of(send_bytes, first, count), receives = piece_of(receive_bytes, first, count);
      wait(whom, [&](MPI_Request* request) {
        MPI_Irecv(static_cast<std::byte*>(receive) + first, receives, MPI_BYTE, partner, 0, MPI_COMM_WORLD,
                  request);
        MPI_Isend(static_cast<const std::byte*>(send) + first, sends, MPI_BYTE, partner, 0, MPI_COMM_WORLD,
                  &sent);
      });
      wait(whom, [&](MPI_Request* request) { *request = sent; });
    });
    session_->bytes_sent += send_bytes;
  }

  void barrier() const {
    wait("the other ranks", [](MPI_Request* request) { MPI_Ibarrier(MPI_COMM_WORLD, request); });
  }

  /// Ends all ranks at once. For a program that cannot continue, after its error message.
  [[noreturn]] void abort(int status) const {
    ::alarm(10);  // ends this process in case MPI hangs
    MPI_Abort(MPI_COMM_WORLD, status);
    std::terminate();  // MPI_Abort does not return
  }

 private:
  struct Session {
    int rank = 0, size = 1, local_rank = 0, local_size = 1;
    bool finalizes = false;
    double time_limit = 0;
    double seconds_waited = 0;
    std::uint64_t bytes_sent = 0;

    Session() {
      int is_initialized = 0;
      MPI_Initialized(&is_initialized);
      if (is_initialized == 0) {
        int provided = 0;
        MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided);
        finalizes = true;
      }
      MPI_Comm_rank(MPI_COMM_WORLD, &rank);
      MPI_Comm_size(MPI_COMM_WORLD, &size);
      MPI_Comm local = MPI_COMM_NULL;
      MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, rank, MPI_INFO_NULL, &local);
      MPI_Comm_rank(local, &local_rank);
      MPI_Comm_size(local, &local_size);
      MPI_Comm_free(&local);
    }
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;
    /// Finalizing waits for the other ranks, so it is skipped if this one has failed.
    ~Session() {
      if (finalizes && std::uncaught_exceptions() == 0) MPI_Finalize();
    }
  };

  /// Calls f(first, count) for pieces of `bytes` bytes that an int can count.
  template <class F>
  static void in_pieces(std::size_t bytes, const F& f) {
    constexpr std::size_t piece = std::size_t{1} << 30;
    for (std::size_t first = 0; first < bytes; first += piece)
      f(first, static_cast<int>(std::min(piece, bytes - first)));
  }

  /// How many of the `count` bytes from `first` on are within an array of `bytes`.
  static int piece_of(std::size_t bytes, std::size_t first, int count) {
    if (first >= bytes) return 0;
    return static_cast<int>(std::min(bytes - first, static_cast<std::size_t>(count)));
  }

  /// Starts an operation by begin(request) and waits for it. A blocking call could not time out.
  template <class Begin>
  void wait(const std::string& whom, const Begin& begin) const {
    MPI_Request request = MPI_REQUEST_NULL;
    begin(&request);
    session_->seconds_waited += wait_for(whom, session_->time_limit, [&] {
      int done = 0;
      MPI_Test(&request, &done, MPI_STATUS_IGNORE);
      return done != 0;
    });
  }

  std::shared_ptr<Session> session_;
};

}  // namespace lnfree
