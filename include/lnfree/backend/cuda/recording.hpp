#pragma once

#include <cstddef>
#include <utility>
#include <vector>

#include <lnfree/backend/cuda/device.hpp>
#include <lnfree/backend/cuda/runtime.hpp>
#include <lnfree/core/recording.hpp>

namespace lnfree {

/// On a GPU: one graph instead of launching a hundred kernels or more, which would take a small model most of
/// its time. The first time, work is launched directly, so that products are planned; the second time it is
/// recorded.
template <cuda::CudaDevice Device, class Key>
class Recording<Device, Key> {
 public:
  template <class Body>
  void run(Device& device, const Key& key, const Body& body) {
    for (auto& [of, graph] : graphs_) {
      if (of != key) continue;
      if (!graph) graph = device.stream().record(body);
      device.stream().launch(graph);
      return;
    }
    body();
    if (graphs_.size() == max_graphs) graphs_.erase(graphs_.begin());
    graphs_.emplace_back(key, cuda::Graph());
  }

 private:
  static constexpr std::size_t max_graphs = 8;  // bounds the memory of programs that never repeat a key

  std::vector<std::pair<Key, cuda::Graph>> graphs_;
};

}  // namespace lnfree
