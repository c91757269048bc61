#pragma once

#include <cstddef>
#include <cstdint>

#include <lnfree/core/random.hpp>
#include <lnfree/core/tensor.hpp>
#include <lnfree/device/eigen/device.hpp>
#include <lnfree/device/eigen/views.hpp>

namespace lnfree::eigen {

template <class S>
void dropout(EigenCpu<S>&, Matrix<S> x, double rate, Philox random) {
  const double threshold = rate * 4294967296.0;
  const S scale = static_cast<S>(1.0 / (1.0 - rate));
  using Mask = Eigen::Array<bool, 1, Eigen::Dynamic>;
  for_each_row(x.rows, x.cols, [&](Index i) {
    const auto dropped = Mask::NullaryExpr(x.cols, [&](Eigen::Index j) {
      const Index element = i * x.cols + j;
      const auto draws = random(static_cast<std::uint64_t>(element / 4));
      return draws[static_cast<std::size_t>(element % 4)] < threshold;
    });
    row(x, i) = dropped.select(S(0), row(x, i) * scale);
  });
}

}  // namespace lnfree::eigen
