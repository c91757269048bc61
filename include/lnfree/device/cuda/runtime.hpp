#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <string>
#include <type_traits>
#include <utility>

#include <lnfree/core/error.hpp>
#include <lnfree/core/tensor.hpp>
#include <lnfree/device/cuda/staging.hpp>

/// Everything that the kernels and primitives need from the CUDA runtime. The tests put a header of the same
/// name in front of this one, with which the kernels run on the host.
namespace lnfree::cuda {

/// Throws Error if a call to the runtime failed.
inline void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  throw Error(std::string("the GPU failed in ") + what + ": " + cudaGetErrorString(status));
}

/// Recorded work of a Stream, which can be launched as a whole any number of times: a CUDA graph.
class Graph {
 public:
  Graph() = default;
  explicit Graph(cudaGraphExec_t graph) : graph_(graph) {}
  Graph(Graph&& other) noexcept : graph_(std::exchange(other.graph_, nullptr)) {}
  Graph& operator=(Graph&& other) noexcept {
    std::swap(graph_, other.graph_);
    return *this;
  }
  ~Graph() {
    if (graph_ != nullptr) cudaGraphExecDestroy(graph_);
  }

  explicit operator bool() const { return graph_ != nullptr; }
  cudaGraphExec_t get() const { return graph_; }

 private:
  cudaGraphExec_t graph_ = nullptr;
};

/// A GPU and its queue of work. Kernels and copies run in the order in which they were queued.
class Stream {
 public:
  /// Takes the first GPU that CUDA_VISIBLE_DEVICES allows. Throws NoDevice if there is none.
  Stream() {
    int count = 0;
    // Without a driver the call fails and does not set the count.
    if (const cudaError_t status = cudaGetDeviceCount(&count); status != cudaSuccess) {
      throw NoDevice(std::string("no CUDA device can be used: ") + cudaGetErrorString(status) +
                     "; install NVIDIA's driver, or use a program for the CPU");
    }
    if (count == 0) {
      throw NoDevice("no CUDA device is visible; look at CUDA_VISIBLE_DEVICES, or use a program for the CPU");
    }
    check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreate");
    check(cudaMallocHost(&host_memory_, Staging::size), "cudaMallocHost");
    staging_ = Staging(host_memory_);
  }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  ~Stream() {
    cudaStreamDestroy(stream_);
    cudaFreeHost(host_memory_);
  }

  cudaStream_t get() const { return stream_; }

  /// Throws Error if the GPU has too little free memory.
  void* allocate(std::size_t bytes) {
    void* memory = nullptr;
    if (const cudaError_t status = cudaMalloc(&memory, bytes); status != cudaSuccess) {
      cudaGetLastError();  // clears the error: the program may go on and ask for less
      std::size_t free = 0, total = 0;
      check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
      throw Error("out of GPU memory: " + std::to_string(bytes) + " bytes were asked for, " +
                  std::to_string(free) + " of " + std::to_string(total) +
                  " are free; take a smaller batch and accumulate more of them");
    }
    return memory;
  }
  /// The GPU's memory that no program has taken.
  std::size_t free_bytes() const {
    std::size_t free = 0, total = 0;
    check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
    return free;
  }
  /// NVIDIA's name of the GPU, such as "NVIDIA GeForce RTX 3090".
  std::string device_name() const { return properties().name; }
  /// 90 for 9.0, for one.
  int compute_capability() const {
    const cudaDeviceProp found = properties();
    return 10 * found.major + found.minor;
  }
  int multiprocessors() const { return properties().multiProcessorCount; }
  void deallocate(void* memory) {
    cudaStreamSynchronize(stream_);
    cudaFree(memory);
  }

  void fill_zero(void* memory, std::size_t bytes) {
    check(cudaMemsetAsync(memory, 0, bytes, stream_), "cudaMemset");
  }
  /// `from` may be reused as soon as this returns. Waits only if `from` does not fit in the staging memory.
  void copy_to_device(void* to, const void* from, std::size_t bytes) {
    if (recording_) throw Error("a copy to the device was asked for while a graph is recorded");
    const void* const staged = staging_.keep(from, bytes);
    check(cudaMemcpyAsync(to, staged != nullptr ? staged : from, bytes, cudaMemcpyHostToDevice, stream_),
          "a copy to the device");
    if (staged == nullptr) synchronize();
  }
  void copy_to_host(void* to, const void* from, std::size_t bytes) {
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream_), "a copy to the host");
    synchronize();
  }

  /// How long the GPU takes for what body() puts into this stream. Waits until it is done.
  template <class Body>
  float milliseconds(const Body& body) {
    cudaEvent_t begin = nullptr, end = nullptr;
    check(cudaEventCreate(&begin), "cudaEventCreate");
    check(cudaEventCreate(&end), "cudaEventCreate");
    check(cudaEventRecord(begin, stream_), "cudaEventRecord");
    body();
    check(cudaEventRecord(end, stream_), "cudaEventRecord");
    check(cudaEventSynchronize(end), "a kernel");
    float time = 0;
    check(cudaEventElapsedTime(&time, begin, end), "cudaEventElapsedTime");
    cudaEventDestroy(begin);
    cudaEventDestroy(end);
    return time;
  }

  /// Waits for all work in the queue. Throws Error if a kernel failed.
  void synchronize() {
    check(cudaStreamSynchronize(stream_), "a kernel");
    staging_.clear();
  }

  /// Records the work that body() puts into this stream, without running it. body() must not wait for any of
  /// it.
  template <class Body>
  Graph record(const Body& body) {
    check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
    cudaGraph_t graph = nullptr;
    recording_ = true;
    try {
      body();
    } catch (...) {
      recording_ = false;
      cudaStreamEndCapture(stream_, &graph);
      if (graph != nullptr) cudaGraphDestroy(graph);
      throw;
    }
    recording_ = false;
    check(cudaStreamEndCapture(stream_, &graph), "cudaStreamEndCapture");
    cudaGraphExec_t executable = nullptr;
    const cudaError_t status = cudaGraphInstantiateWithFlags(&executable, graph, 0);
    cudaGraphDestroy(graph);
    check(status, "cudaGraphInstantiate");
    return Graph(executable);
  }
  void launch(const Graph& graph) { check(cudaGraphLaunch(graph.get(), stream_), "cudaGraphLaunch"); }

  /// Launches a kernel on `blocks` blocks of `threads` threads, each block with `shared_bytes` of
  /// shared_memory(). Throws Error if the launch fails.
  template <class... Parameters>
  void launch(void (*kernel)(Parameters...), Index blocks, int threads, std::size_t shared_bytes,
              std::type_identity_t<Parameters>... arguments) {
    if (blocks == 0) return;
    constexpr std::size_t without_asking = 48 << 10;
    if (shared_bytes > without_asking) {
      check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 static_cast<int>(shared_bytes)),
            "cudaFuncSetAttribute");
    }
    kernel<<<static_cast<unsigned>(blocks), static_cast<unsigned>(threads), shared_bytes, stream_>>>(
        arguments...);
    check(cudaGetLastError(), "the launch of a kernel");
  }

 private:
  static cudaDeviceProp properties() {
    int device = 0;
    check(cudaGetDevice(&device), "cudaGetDevice");
    cudaDeviceProp properties;
    check(cudaGetDeviceProperties(&properties, device), "cudaGetDeviceProperties");
    return properties;
  }

  cudaStream_t stream_ = nullptr;
  bool recording_ = false;
  void* host_memory_ = nullptr;  // page-locked
  Staging staging_{nullptr};
};

/// The block's shared memory, of the size given at the launch. It is not initialised.
template <class T>
__device__ T* shared_memory() {
  extern __shared__ __align__(16) unsigned char lnfree_shared_memory[];
  return reinterpret_cast<T*>(lnfree_shared_memory);
}

}  // namespace lnfree::cuda
