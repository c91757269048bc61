#pragma once

#include <algorithm>
#include <cassert>

#if LNFREE_HAS_BLAS
#include <cblas.h>
#else
#include <Eigen/Core>
#endif

#include <lnfree/backend/cpu/device.hpp>
#include <lnfree/backend/cpu/panel_gemm.hpp>
#include <lnfree/core/tensor.hpp>

namespace lnfree::cpu {

/// A product with a side below this is PanelGemm's: measured on the shapes of narrow models, 90-95 % of the
/// peak against a BLAS's 70-85 %. (docs/performance.md)
inline constexpr Index short_side = 256;

inline void gemm(Cpu&, Operand<float> a, Operand<float> b, Output<float> c) {
  assert(a.rows() == c.matrix.rows && b.cols() == c.matrix.cols && a.cols() == b.rows());
  if (std::min({a.rows(), a.cols(), b.cols()}) < short_side) return PanelGemm(a, b, c).run();
#if LNFREE_HAS_BLAS
  const auto order = [](const Operand<float>& m) { return m.transposed ? CblasTrans : CblasNoTrans; };
  const auto to_int = [](Index i) { return static_cast<int>(i); };
  cblas_sgemm(CblasRowMajor, order(a), order(b), to_int(a.rows()), to_int(b.cols()), to_int(a.cols()), 1.0f,
              a.matrix.data, to_int(a.matrix.stride), b.matrix.data, to_int(b.matrix.stride),
              c.accumulates ? 1.0f : 0.0f, c.matrix.data, to_int(c.matrix.stride));
#else
  using EigenMatrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  using Stride = Eigen::OuterStride<>;
  const auto map = [](Matrix<const float> m) {
    return Eigen::Map<const EigenMatrix, 0, Stride>(m.data, m.rows, m.cols, Stride(m.stride));
  };
  const auto A = map(a.matrix), B = map(b.matrix);
  // Eigen splits a product by columns of its result alone; splitting the longer side here keeps all threads
  // busy.
  const bool by_rows = c.matrix.rows >= c.matrix.cols;
  parallel_for(by_rows ? c.matrix.rows : c.matrix.cols, 16, [&](Index begin, Index end) {
    const Index count = end - begin;
    Eigen::Map<EigenMatrix, 0, Stride> C(c.matrix.data, c.matrix.rows, c.matrix.cols,
                                         Stride(c.matrix.stride));
    const auto product = [&](auto&& to, const auto& left, const auto& right) {
      if (c.accumulates) {
        to.noalias() += left * right;
      } else {
        to.noalias() = left * right;
      }
    };
    const auto part = [&](const auto& left, const auto& right) {
      if (by_rows) {
        product(C.middleRows(begin, count), left.middleRows(begin, count), right);
      } else {
        product(C.middleCols(begin, count), left, right.middleCols(begin, count));
      }
    };
    if (a.transposed && b.transposed) {
      part(A.transpose(), B.transpose());
    } else if (a.transposed) {
      part(A.transpose(), B);
    } else if (b.transposed) {
      part(A, B.transpose());
    } else {
      part(A, B);
    }
  });
#endif
}

}  // namespace lnfree::cpu
