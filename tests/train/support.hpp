#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lnfree/data/windows.hpp"
#include "lnfree/device/eigen/eigen.hpp"
#include "lnfree/model.hpp"
#include "support/temporary_folder.hpp"

namespace lnfree::test {

/// Models of the tiny shape on EigenCpu.
template <class Norm, class Activation, DecoderConfig Config = tiny>
using TinyModel = Decoder<Config, Norm, Activation, Reference<float>, EntropyObserver>;

/// A shard of `windows` windows of `length` tokens below `vocab_size`, the same for the same `salt`.
inline std::filesystem::path write_tokens(const std::filesystem::path& path, int windows, int length,
                                          int vocab_size, std::uint64_t salt = 1) {
  std::vector<std::int32_t> tokens;
  const Philox random(salt, stream_of("test tokens"));
  for (int i = 0; i < windows * length; ++i)
    tokens.push_back(static_cast<std::int32_t>(random(static_cast<std::uint64_t>(i))[0] % vocab_size));
  TokenShardWriter writer(path, vocab_size);
  writer.append(tokens);
  writer.finish({});
  return path;
}

/// Every number of a model's parameters, in order.
template <class Model>
std::vector<float> weights(Model& model) {
  std::vector<float> all;
  for (const auto& parameter : model.parameters().all()) {
    const auto values = model.parameters().read(model.device(), parameter);
    all.insert(all.end(), values.begin(), values.end());
  }
  return all;
}

}  // namespace lnfree::test
