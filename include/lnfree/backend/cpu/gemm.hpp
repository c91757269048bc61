#pragma once

#include <algorithm>
#include <cassert>

#if defined(LNFREE_HAS_BLAS) && LNFREE_HAS_BLAS
#include <cblas.h>
#endif

#include <lnfree/backend/cpu/device.hpp>
#include <lnfree/backend/cpu/panel_gemm.hpp>
#include <lnfree/backend/cpu/tile_product.hpp>
#include <lnfree/core/tensor.hpp>

namespace lnfree::cpu {

/// Whether products are a BLAS's: compiled for any processor of its kind, a program has narrow vectors, while
/// a BLAS looks at the one it runs on. With other threads a BLAS may round otherwise; own products do not.
#if defined(LNFREE_HAS_BLAS) && LNFREE_HAS_BLAS
inline constexpr bool products_by_blas = vector_width < 8;
#else
inline constexpr bool products_by_blas = false;
#endif

/// Brings what is added to where the result goes, for a library that adds to its result only.
template <class T>
void place_addend(Output<T> c) {
  if (!c.adds() || c.addend.data == c.matrix.data) return;
  for (Index i = 0; i < c.matrix.rows; ++i) std::copy_n(c.addend.row(i), c.matrix.cols, c.matrix.row(i));
}

inline void gemm(Cpu&, Operand<float> a, Operand<float> b, Output<float> c) {
  assert(a.rows() == c.matrix.rows && b.cols() == c.matrix.cols && a.cols() == b.rows());
#if defined(LNFREE_HAS_BLAS) && LNFREE_HAS_BLAS
  if constexpr (products_by_blas) {
    const auto order = [](const Operand<float>& m) { return m.transposed ? CblasTrans : CblasNoTrans; };
    const auto to_int = [](Index i) { return static_cast<int>(i); };
    place_addend(c);
    cblas_sgemm(CblasRowMajor, order(a), order(b), to_int(a.rows()), to_int(b.cols()), to_int(a.cols()), 1.0f,
                a.matrix.data, to_int(a.matrix.stride), b.matrix.data, to_int(b.matrix.stride),
                c.adds() ? 1.0f : 0.0f, c.matrix.data, to_int(c.matrix.stride));
    return;
  }
#endif
  PanelGemm(a, b, c).run();
}

}  // namespace lnfree::cpu
