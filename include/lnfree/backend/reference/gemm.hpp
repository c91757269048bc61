#pragma once

#include <type_traits>

#include <lnfree/backend/reference/device.hpp>
#include <lnfree/core/tensor.hpp>

namespace lnfree::reference {

template <class S>
void gemm(Reference<S>&, std::type_identity_t<Operand<S>> a, std::type_identity_t<Operand<S>> b,
          std::type_identity_t<Output<S>> c) {
  const auto element = [](const Operand<S>& m, Index i, Index j) {
    return m.transposed ? m.matrix.row(j)[i] : m.matrix.row(i)[j];
  };
  for (Index i = 0; i < a.rows(); ++i) {
    for (Index j = 0; j < b.cols(); ++j) {
      S sum = 0;
      for (Index k = 0; k < a.cols(); ++k) sum += element(a, i, k) * element(b, k, j);
      c.matrix.row(i)[j] = c.adds() ? c.addend.row(i)[j] + sum : sum;
    }
  }
}

}  // namespace lnfree::reference
