#pragma once

#include <cstdint>
#include <vector>

#include <lnfree/core/memory.hpp>
#include <lnfree/core/rounded_weights.hpp>

#include "device/workbench.hpp"

namespace lnfree::test {

/// A model's weights on the device, rounded for products of up to so many rows.
template <class D>
class Rounded {
 public:
  Rounded(D& device, const std::vector<Matrix<const BFloat16>>& weights, Index rows) {
    Arena counted;
    rounded_.plan(counted, weights, rows);
    memory_ = Buffer<D>(device, counted.peak());
    Arena placed(memory_.data());
    rounded_.plan(placed, weights, rows);
    rounded_.update(device, 1);
  }
  void update(D& device, std::uint64_t version) { rounded_.update(device, version); }

 private:
  Buffer<D> memory_;
  RoundedWeights<D> rounded_;
};

/// y = x W or, backwards, d_x = d_y W^T, as a layer has it.
template <class D, class A>
void multiply(D& device, Matrix<const BFloat16> x, Matrix<const BFloat16> w, bool backwards,
              Output<BFloat16> y, Epilogue<BFloat16, A> epilogue = {}) {
  gemm(device, x, Operand<BFloat16>(w, backwards), y, epilogue);
}

}  // namespace lnfree::test
