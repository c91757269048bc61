#pragma once

#include <cstddef>
#include <cstdlib>
#include <cstring>

/// What parallel/nccl.hpp needs of the CUDA runtime, for fake GPUs in host memory. Their number is FAKE_GPUS
/// in the environment, 8 by default.

using cudaStream_t = void*;
enum cudaError_t { cudaSuccess, cudaErrorNotReady };
enum cudaMemcpyKind { cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost };
inline constexpr int cudaStreamNonBlocking = 1;

inline int chosen_device = -1;

inline const char* cudaGetErrorString(cudaError_t) {
  return "an error";
}
inline cudaError_t cudaGetDeviceCount(int* count) {
  const char* const gpus = std::getenv("FAKE_GPUS");
  *count = gpus == nullptr ? 8 : std::atoi(gpus);
  return cudaSuccess;
}
inline cudaError_t cudaSetDevice(int device) {
  chosen_device = device;
  return cudaSuccess;
}
inline cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, int) {
  *stream = std::malloc(1);
  return cudaSuccess;
}
inline cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  std::free(stream);
  return cudaSuccess;
}
inline cudaError_t cudaMalloc(void** memory, std::size_t bytes) {
  *memory = std::malloc(bytes);
  return cudaSuccess;
}
inline cudaError_t cudaFree(void* memory) {
  std::free(memory);
  return cudaSuccess;
}
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind,
                                   cudaStream_t) {
  std::memcpy(to, from, bytes);
  return cudaSuccess;
}
inline cudaError_t cudaStreamSynchronize(cudaStream_t) {
  return cudaSuccess;
}
/// Reports every third time that the work is done.
inline cudaError_t cudaStreamQuery(cudaStream_t) {
  static int asked = 0;
  return ++asked % 3 == 0 ? cudaSuccess : cudaErrorNotReady;
}
