#pragma once

#include <mpi.h>

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <vector>

#include <cuda_runtime.h>

/// What parallel/nccl.hpp needs of NCCL, implemented with MPI between processes started by mpirun. Nothing
/// completes at once: every call is in progress until it has been polled a few times.

enum ncclResult_t { ncclSuccess, ncclInternalError, ncclInvalidUsage, ncclInProgress };
enum ncclDataType_t { ncclChar, ncclDouble };
struct ncclUniqueId {
  char internal[128];
};
struct ncclConfig_t {
  int blocking;
};
#define NCCL_CONFIG_INITIALIZER {1}

/// A communicator: how often it will still report that it is busy, and its result afterwards.
struct FakeCommunicator {
  int busy = 3;
  ncclResult_t result = ncclSuccess;
};
using ncclComm_t = FakeCommunicator*;

/// The operations of a group.
inline std::vector<std::function<void(MPI_Request*)>> group;

inline ncclResult_t begun(ncclComm_t communicator) {
  communicator->busy = 3;
  return ncclInProgress;
}

inline const char* ncclGetErrorString(ncclResult_t) {
  return "invalid usage";
}
inline const char* ncclGetLastError(ncclComm_t) {
  return "the ranks do not agree";
}
/// With an address the id is derived from it; otherwise it differs in each process.
inline ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  std::memset(id->internal, 0, sizeof(id->internal));
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  const char* const address = std::getenv("NCCL_COMM_ID");
  if (address != nullptr) {
    std::strncpy(id->internal, address, sizeof(id->internal) - 1);
  } else {
    id->internal[0] = static_cast<char>(1 + rank);
  }
  return ncclSuccess;
}
/// Fails later if a rank has another id, or the wrong number.
inline ncclResult_t ncclCommInitRankConfig(ncclComm_t* communicator, int ranks, ncclUniqueId id, int rank,
                                           ncclConfig_t* config) {
  int size = 0, number = 0;
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  MPI_Comm_rank(MPI_COMM_WORLD, &number);
  ncclUniqueId first = id;
  MPI_Bcast(first.internal, sizeof(first.internal), MPI_BYTE, 0, MPI_COMM_WORLD);
  *communicator = new FakeCommunicator;
  if (ranks != size || rank != number || config->blocking != 0 ||
      std::memcmp(first.internal, id.internal, sizeof(id.internal)) != 0)
    (*communicator)->result = ncclInvalidUsage;
  return ncclInProgress;
}
inline ncclResult_t ncclCommGetAsyncError(ncclComm_t communicator, ncclResult_t* result) {
  *result = communicator->busy-- > 0 ? ncclInProgress : communicator->result;
  return ncclSuccess;
}
inline ncclResult_t ncclCommFinalize(ncclComm_t communicator) {
  return begun(communicator);
}
inline ncclResult_t ncclCommDestroy(ncclComm_t communicator) {
  delete communicator;
  return ncclSuccess;
}
inline ncclResult_t ncclCommAbort(ncclComm_t communicator) {
  return ncclCommDestroy(communicator);
}
inline ncclResult_t ncclGroupStart() {
  return ncclSuccess;
}
inline ncclResult_t ncclSend(const void* from, std::size_t count, ncclDataType_t, int to,
                             ncclComm_t communicator, cudaStream_t) {
  group.emplace_back([=](MPI_Request* request) {
    MPI_Isend(from, static_cast<int>(count), MPI_BYTE, to, 7, MPI_COMM_WORLD, request);
  });
  return begun(communicator);
}
inline ncclResult_t ncclRecv(void* to, std::size_t count, ncclDataType_t, int from, ncclComm_t communicator,
                             cudaStream_t) {
  group.emplace_back([=](MPI_Request* request) {
    MPI_Irecv(to, static_cast<int>(count), MPI_BYTE, from, 7, MPI_COMM_WORLD, request);
  });
  return begun(communicator);
}
inline ncclResult_t ncclGroupEnd() {
  std::vector<MPI_Request> requests(group.size());
  for (std::size_t i = 0; i < group.size(); ++i) group[i](&requests[i]);
  MPI_Waitall(static_cast<int>(requests.size()), requests.data(), MPI_STATUSES_IGNORE);
  group.clear();
  return ncclInProgress;
}
inline ncclResult_t ncclBroadcast(const void*, void* data, std::size_t count, ncclDataType_t, int root,
                                  ncclComm_t communicator, cudaStream_t) {
  MPI_Bcast(data, static_cast<int>(count), MPI_BYTE, root, MPI_COMM_WORLD);
  return begun(communicator);
}
inline ncclResult_t ncclAllGather(const void* own, void* all, std::size_t count, ncclDataType_t,
                                  ncclComm_t communicator, cudaStream_t) {
  MPI_Allgather(own, static_cast<int>(count), MPI_DOUBLE, all, static_cast<int>(count), MPI_DOUBLE,
                MPI_COMM_WORLD);
  return begun(communicator);
}
