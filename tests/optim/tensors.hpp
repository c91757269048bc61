#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include <lnfree/core/random.hpp>

#include "support/seed.hpp"

/// The tensors of a model by name, on the host in double.
namespace lnfree::test {

using TensorsByName = std::map<std::string, std::vector<double>>;

template <class M>
TensorsByName read(M& model) {
  TensorsByName tensors;
  for (const auto& p : model.parameters().all()) {
    const auto values = model.parameters().read(model.device(), p);
    tensors[p.name].assign(values.begin(), values.end());
  }
  return tensors;
}

/// Writes random numbers to every parameter, so that nothing starts at 0 or 1.
template <class M>
void draw_weights(M& model, double std) {
  for (auto& p : model.parameters().all()) {
    std::vector<typename M::Accumulator> values(static_cast<std::size_t>(p.size()));
    fill_normal(values.data(), p.size(), std, Philox(seed(), stream_of(p.name)));
    model.parameters().write(model.device(), p, values.data());
  }
}

/// Writes random gradients to the model and returns them.
template <class M>
TensorsByName draw_gradients(M& model, double std, std::uint64_t draw) {
  using Accumulator = typename M::Accumulator;
  TensorsByName tensors;
  for (const auto& p : model.parameters().all()) {
    std::vector<Accumulator> values(static_cast<std::size_t>(p.size()));
    fill_normal(values.data(), p.size(), std, Philox(seed() + draw, stream_of(p.name)));
    copy_to_device(model.device(), p.gradient, values.data(), values.size() * sizeof(Accumulator));
    tensors[p.name].assign(values.begin(), values.end());
  }
  return tensors;
}

}  // namespace lnfree::test
