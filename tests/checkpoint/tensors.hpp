#pragma once

#include <filesystem>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "lnfree/checkpoint/safetensors.hpp"

namespace lnfree::test {

/// The tensors of a file, for changing and writing them again.
inline std::vector<NamedTensor> tensors_of(const std::filesystem::path& path) {
  std::vector<NamedTensor> tensors;
  const auto file = SafetensorsFile::open(path);
  for (const TensorInfo& tensor : file.tensors())
    tensors.push_back({tensor.name, tensor.shape, [values = file.read(tensor)] { return values; }});
  return tensors;
}

inline NamedTensor filled(const std::string& name, std::vector<Index> shape, float value) {
  Index size = 1;
  for (const Index extent : shape) size *= extent;
  return {name, std::move(shape), [=] { return std::vector<float>(static_cast<std::size_t>(size), value); }};
}

inline NamedTensor& named(std::vector<NamedTensor>& tensors, const std::string& name) {
  for (NamedTensor& tensor : tensors) {
    if (tensor.name == name) return tensor;
  }
  throw std::runtime_error("no tensor " + name);
}

}  // namespace lnfree::test
