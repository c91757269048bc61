#pragma once

#include <lnfree/backend/reference/device.hpp>
#include <lnfree/core/random.hpp>
#include <lnfree/core/tensor.hpp>

namespace lnfree::reference {

template <class S>
void dropout(Reference<S>&, Matrix<S> x, double rate, Philox random) {
  const double threshold = rate * 4294967296.0;
  const S scale = static_cast<S>(1.0 / (1.0 - rate));
  for (Index i = 0; i < x.rows; ++i) {
    for (Index j = 0; j < x.cols; ++j) {
      const Index element = i * x.cols + j;
      const auto draw =
          random(static_cast<std::uint64_t>(element / 4))[static_cast<std::size_t>(element % 4)];
      S& value = x.row(i)[j];
      value = draw < threshold ? S(0) : value * scale;
    }
  }
}

}  // namespace lnfree::reference
