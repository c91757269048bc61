#pragma once

#include <cuda_runtime.h>
#include <nccl.h>
#include <unistd.h>

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <lnfree/core/atomic_file.hpp>
#include <lnfree/core/error.hpp>
#include <lnfree/core/files.hpp>
#include <lnfree/device/cuda/runtime.hpp>
#include <lnfree/parallel/communicator.hpp>
#include <lnfree/parallel/launched_process.hpp>

namespace lnfree {

/// Processes with one GPU each that communicate through NCCL. They find each other through another
/// Communicator, such as Mpi, through a file that all of them can access, or at an address. It is a handle:
/// copies refer to the same processes. Create it before any other use of the GPU, which it selects: the one
/// with the number of the rank on its machine, or the only visible one. Only one thread may use it at a time.
class Nccl {
 public:
  /// Results have the same bits for any number of ranks up to this one.
  static constexpr int max_leaves = 64;
  using Stream = cudaStream_t;  ///< The stream of exchange_on_device().

  /// The processes of `ranks`, such as an Mpi, through which they find each other. `time_limit` is how many
  /// seconds a call waits for other ranks before it throws Error.
  template <Communicator C>
  static Nccl through(const C& ranks, double time_limit = 600) {
    return Nccl(std::make_shared<Session>(
        LaunchedProcess{ranks.rank(), ranks.size(), ranks.local_rank()}, time_limit,
        [&ranks](ncclUniqueId& id) {
          on_all_ranks(ranks, [&] {
            if (ranks.rank() == 0) check(ncclGetUniqueId(&id), "ncclGetUniqueId");
          });
          ranks.broadcast(&id, sizeof(id), 0);
        },
        [ranks](int status) { ranks.abort(status); }));
  }

  /// The processes of a launcher. They find each other through the file `rendezvous`, which must not exist
  /// yet and is removed again, or, if `rendezvous` is HOST:PORT, at a free port of rank 0's machine. A single
  /// process needs neither.
  explicit Nccl(const LaunchedProcess& process, const std::string& rendezvous, double time_limit = 600)
      : session_(met(process, rendezvous, time_limit)) {}

  /// From the environment: LaunchedProcess::from_environment() and LNFREE_RENDEZVOUS.
  static Nccl from_environment(double time_limit = 600) {
    const char* const rendezvous = std::getenv("LNFREE_RENDEZVOUS");
    return Nccl(LaunchedProcess::from_environment(), rendezvous == nullptr ? "" : rendezvous, time_limit);
  }

  /// Sets the time limit, as in the constructor.
  void set_time_limit(double seconds) const { session_->time_limit = seconds; }

  int rank() const { return session_->process.rank; }
  int size() const { return session_->process.size; }
  /// Number of this rank among those on its machine.
  int local_rank() const { return session_->process.local_rank; }
  int local_size() const { return session_->local_size; }
  std::uint64_t bytes_sent() const { return session_->bytes_sent; }
  double seconds_waited() const { return session_->seconds_waited; }

  std::vector<double> gather(std::span<const double> own) const {
    if (!session_->is_connected()) return {own.begin(), own.end()};
    return session_->gather(own);
  }

  void broadcast(void* data, std::size_t bytes, int root) const {
    if (!session_->is_connected()) return;
    Session& s = *session_;
    for (std::size_t first = 0; first < bytes; first += staging_bytes) {
      const std::size_t count = std::min(staging_bytes, bytes - first);
      char* const host = static_cast<char*>(data) + first;
      if (rank() == root) s.copy(s.staging(0), host, count, cudaMemcpyHostToDevice);
      s.ask("ncclBroadcast", [&] {
        return ncclBroadcast(s.staging(0), s.staging(0), count, ncclChar, root, s.communicator, s.stream);
      });
      s.finish(s.stream, "rank " + std::to_string(root));
      if (rank() != root) s.copy(host, s.staging(0), count, cudaMemcpyDeviceToHost);
    }
  }

  void exchange(int partner, const void* send, std::size_t send_bytes, void* receive,
                std::size_t receive_bytes) const {
    Session& s = *session_;
    s.connect();
    for (std::size_t first = 0; first < std::max(send_bytes, receive_bytes); first += staging_bytes) {
      const auto part = [&](std::size_t all) {
        return first < all ? std::min(staging_bytes, all - first) : 0;
      };
      const std::size_t sends = part(send_bytes), receives = part(receive_bytes);
      if (sends > 0)
        s.copy(s.staging(0), static_cast<const char*>(send) + first, sends, cudaMemcpyHostToDevice);
      exchange_on_device(s.stream, partner, s.staging(0), sends, s.staging(1), receives);
      s.finish(s.stream, "rank " + std::to_string(partner));
      if (receives > 0)
        s.copy(static_cast<char*>(receive) + first, s.staging(1), receives, cudaMemcpyDeviceToHost);
    }
  }

  void barrier() const {
    const double nothing = 0;
    gather(std::span(&nothing, 1));
  }

  /// Exchanges bytes of GPU memory with another rank, asynchronously on a stream.
  void exchange_on_device(Stream stream, int partner, const void* send, std::size_t send_bytes, void* receive,
                          std::size_t receive_bytes) const {
    Session& s = *session_;
    s.connect();
    s.ask("ncclSend and ncclRecv", [&] {
      ncclResult_t result = ncclGroupStart();
      const auto also = [&](auto call) {
        if (result == ncclSuccess || result == ncclInProgress) result = call();
      };
      if (send_bytes > 0)
        also([&] { return ncclSend(send, send_bytes, ncclChar, partner, s.communicator, stream); });
      if (receive_bytes > 0)
        also([&] { return ncclRecv(receive, receive_bytes, ncclChar, partner, s.communicator, stream); });
      const ncclResult_t ended = ncclGroupEnd();
      return result == ncclSuccess || result == ncclInProgress ? ended : result;
    });
    s.bytes_sent += send_bytes;
  }

  /// Waits for all work on a stream.
  void finish(Stream stream) const { session_->finish(stream, "the other ranks"); }

  /// Ends this process at once, and the others too if MPI started them; otherwise their launcher or their
  /// time limit ends them. For a program that cannot continue, after its error message.
  [[noreturn]] void abort(int status) const {
    session_->leave();
    session_->abort(status);
    std::terminate();  // it does not return
  }

 private:
  static constexpr std::size_t staging_bytes = std::size_t{1} << 20;

  /// Throws Error if a call of NCCL failed.
  static void check(ncclResult_t result, const char* what) {
    if (result == ncclSuccess) return;
    const char* const details = ncclGetLastError(nullptr);
    throw Error(std::string("NCCL failed in ") + what + ": " + ncclGetErrorString(result) +
                (details == nullptr || *details == '\0' ? "" : " (" + std::string(details) + ")") +
                "; NCCL_DEBUG=INFO in the environment shows more");
  }

  static bool is_address(const std::string& rendezvous) {
    const std::size_t colon = rendezvous.rfind(':');
    return colon != std::string::npos && rendezvous.find('/') == std::string::npos &&
           colon + 1 < rendezvous.size() &&
           rendezvous.find_first_not_of("0123456789", colon + 1) == std::string::npos;
  }

  /// Distributes the id of rank 0 to all. Returns whether this process has written it to a file.
  static bool meet(const LaunchedProcess& process, const std::string& rendezvous, double time_limit,
                   ncclUniqueId& id) {
    if (is_address(rendezvous)) {  // NCCL derives the id from it
      ::setenv("NCCL_COMM_ID", rendezvous.c_str(), 1);
      check(ncclGetUniqueId(&id), "ncclGetUniqueId");
      return false;
    }
    if (process.rank == 0) {
      if (path_exists(rendezvous)) {
        throw Error(rendezvous +
                    ", where the ranks are to meet, exists already: it is of a run that did not " +
                    "begin; remove it, or let LNFREE_RENDEZVOUS name another file");
      }
      check(ncclGetUniqueId(&id), "ncclGetUniqueId");
      write_file(rendezvous, std::string(id.internal, sizeof(id.internal)));
      return true;
    }
    wait_for("rank 0 to write " + rendezvous, time_limit, [&] {
      std::ifstream file(rendezvous, std::ios::binary);
      return static_cast<bool>(file.read(id.internal, sizeof(id.internal)));
    });
    return false;
  }

  struct Session;
  explicit Nccl(std::shared_ptr<Session> session) : session_(std::move(session)) {}

  /// The session of processes that have met in this way.
  static std::shared_ptr<Session> met(const LaunchedProcess& process, const std::string& rendezvous,
                                      double time_limit) {
    if (process.size > 1 && rendezvous.empty()) {
      throw Error(
          "rank " + std::to_string(process.rank) + " of " + std::to_string(process.size) +
          " does not know where to meet the others: set LNFREE_RENDEZVOUS to a file on a disk that all "
          "see, one that does not exist yet, or to HOST:PORT of the machine of rank 0");
    }
    bool wrote = false;
    const auto remove = [&] {
      std::error_code ignored;
      if (wrote) std::filesystem::remove(rendezvous, ignored);
    };
    try {
      auto session = std::make_shared<Session>(
          process, time_limit, [&](ncclUniqueId& id) { wrote = meet(process, rendezvous, time_limit, id); },
          [](int status) { std::_Exit(status); });
      remove();
      return session;
    } catch (...) {
      remove();
      throw;
    }
  }

  struct Session {
    LaunchedProcess process;
    double time_limit;
    std::function<void(ncclUniqueId&)> meet;
    std::function<void(int)> abort;
    int local_size = 1;
    double seconds_waited = 0;
    std::uint64_t bytes_sent = 0;
    ncclComm_t communicator = nullptr;
    cudaStream_t stream = nullptr;
    char* memory = nullptr;

    Session(const LaunchedProcess& process, double time_limit, std::function<void(ncclUniqueId&)> meet,
            std::function<void(int)> abort)
        : process(process), time_limit(time_limit), meet(std::move(meet)), abort(std::move(abort)) {
      if (process.size == 1) return;
      connect();
      char name[256] = {};
      ::gethostname(name, sizeof(name) - 1);
      const auto own = static_cast<double>(std::hash<std::string_view>()(name) >> 12);
      const std::vector<double> all = gather(std::span(&own, 1));
      local_size = static_cast<int>(std::count(all.begin(), all.end(), own));
    }
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;
    /// Finalizing waits for the other ranks, so it is skipped if this one has failed.
    ~Session() {
      if (communicator != nullptr && std::uncaught_exceptions() == 0) {
        try {
          ask("ncclCommFinalize", [&] { return ncclCommFinalize(communicator); });
          ncclCommDestroy(std::exchange(communicator, nullptr));
        } catch (const Error&) {  // the communicator is then abandoned
        }
      }
      leave();
      if (memory != nullptr) cudaFree(memory);
      if (stream != nullptr) cudaStreamDestroy(stream);
    }

    /// Aborts pending operations.
    void leave() {
      if (communicator != nullptr) ncclCommAbort(std::exchange(communicator, nullptr));
    }

    /// False for a single process, which has nothing to exchange.
    bool is_connected() const { return communicator != nullptr; }

    /// Selects the GPU and creates the communicator, unless that has been done.
    void connect() {
      if (is_connected()) return;
      choose_device();
      cuda::check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
      cuda::check(cudaMalloc(reinterpret_cast<void**>(&memory), 2 * staging_bytes), "cudaMalloc");
      ncclUniqueId id{};
      if (process.size == 1) {
        check(ncclGetUniqueId(&id), "ncclGetUniqueId");
      } else {
        meet(id);
      }
      meet = nullptr;  // its captures may no longer exist
      ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
      config.blocking = 0;  // a blocking call could not time out
      ask("ncclCommInitRank",
          [&] { return ncclCommInitRankConfig(&communicator, process.size, id, process.rank, &config); });
    }

    void choose_device() const {
      int count = 0;
      const cudaError_t status = cudaGetDeviceCount(&count);
      if (status != cudaSuccess || count == 0) {
        throw NoDevice(std::string("no CUDA device can be used: ") +
                       (status == cudaSuccess ? "none is visible" : cudaGetErrorString(status)) +
                       "; install NVIDIA's driver and look at CUDA_VISIBLE_DEVICES, or use a program for the "
                       "CPU");
      }
      if (count > 1 && process.local_rank >= count) {
        throw Error("rank " + std::to_string(process.rank) + " is number " +
                    std::to_string(process.local_rank) + " on its machine, which has " +
                    std::to_string(count) + " GPUs: start one process for each GPU");
      }
      cuda::check(cudaSetDevice(count == 1 ? 0 : process.local_rank), "cudaSetDevice");
    }

    /// Calls NCCL and waits until it has accepted the operation.
    template <class Call>
    void ask(const char* what, const Call& call) {
      ncclResult_t result = call();
      if (result == ncclInProgress) {
        wait_for("the other ranks", time_limit, [&] {
          if (ncclCommGetAsyncError(communicator, &result) != ncclSuccess) result = ncclInternalError;
          return result != ncclInProgress;
        });
      }
      check(result, what);
    }

    /// Waits for a stream.
    void finish(cudaStream_t of, const std::string& whom) {
      seconds_waited += wait_for(whom, time_limit, [&] {
        ncclResult_t result = ncclSuccess;
        if (communicator != nullptr && ncclCommGetAsyncError(communicator, &result) == ncclSuccess &&
            result != ncclInProgress)
          check(result, "an exchange");
        const cudaError_t status = cudaStreamQuery(of);
        if (status != cudaErrorNotReady) cuda::check(status, "an exchange");
        return status == cudaSuccess;
      });
    }

    std::vector<double> gather(std::span<const double> own) {
      std::vector<double> all(own.size() * static_cast<std::size_t>(process.size));
      const std::size_t most = staging_bytes / sizeof(double) / static_cast<std::size_t>(process.size);
      std::vector<double> part;
      for (std::size_t first = 0; first < own.size(); first += most) {
        const std::size_t count = std::min(most, own.size() - first);
        part.resize(count * static_cast<std::size_t>(process.size));
        copy(staging(0), own.data() + first, count * sizeof(double), cudaMemcpyHostToDevice);
        ask("ncclAllGather",
            [&] { return ncclAllGather(staging(0), staging(1), count, ncclDouble, communicator, stream); });
        finish(stream, "the other ranks");
        copy(part.data(), staging(1), part.size() * sizeof(double), cudaMemcpyDeviceToHost);
        for (std::size_t rank = 0; rank < static_cast<std::size_t>(process.size); ++rank)
          std::copy_n(part.data() + rank * count, count, all.data() + rank * own.size() + first);
      }
      return all;
    }

    char* staging(int which) const { return memory + static_cast<std::size_t>(which) * staging_bytes; }

    /// Copies between idle staging memory and the host.
    void copy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) const {
      cuda::check(cudaMemcpyAsync(to, from, bytes, kind, stream), "a copy");
      cuda::check(cudaStreamSynchronize(stream), "a copy");
    }
  };

  std::shared_ptr<Session> session_;
};

}  // namespace lnfree
