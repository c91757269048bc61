#pragma once

#include <cstdint>
#include <vector>

#include <lnfree/core/memory.hpp>
#include <lnfree/core/rounded_weights.hpp>

#include "device/workbench.hpp"

namespace lnfree::test {

/// A model's weights on the device, rounded for products of up to so many rows. An output matrix is optional.
template <class D>
class Rounded {
 public:
  Rounded(D& device, const std::vector<Matrix<const BFloat16>>& weights, Index rows,
          Matrix<const BFloat16> output_matrix = {}) {
    const auto plan = [&](Arena arena) {
      rounded_.plan(arena, weights, rows);
      if (output_matrix.data != nullptr) rounded_.plan_output_matrix(arena, output_matrix, rows);
      return arena.peak();
    };
    memory_ = Buffer<D>(device, plan(Arena()));
    plan(Arena(memory_.data()));
    rounded_.update(device, 1);
  }
  void update(D& device, std::uint64_t version) { rounded_.update(device, version); }

 private:
  Buffer<D> memory_;
  RoundedWeights<D> rounded_;
};

/// y = x W, or x W^T if `transposed`. A layer has d_x = d_y W^T, and the output matrix logits = x W^T.
template <class D, class A>
void multiply(D& device, Matrix<const BFloat16> x, Matrix<const BFloat16> w, bool transposed,
              Output<BFloat16> y, Epilogue<BFloat16, A> epilogue = {}) {
  gemm(device, x, Operand<BFloat16>(w, transposed), y, epilogue);
}

}  // namespace lnfree::test
