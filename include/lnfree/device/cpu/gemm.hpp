#pragma once

#include <cassert>

#include <lnfree/core/tensor.hpp>
#include <lnfree/device/cpu/device.hpp>
#include <lnfree/device/cpu/tile_product.hpp>
#include <lnfree/device/cpu/vector_product.hpp>

#if defined(__AVX__)
#include <lnfree/device/cpu/panel_gemm.hpp>
#else
#include <lnfree/device/eigen/product.hpp>
#endif

namespace lnfree::cpu {

/// Whether Eigen computes the products. A program compiled for a generic processor has narrow vectors, for
/// which PanelGemm is not designed, while the BLAS that Eigen may call adapts to the processor at run time.
inline constexpr bool products_by_eigen = vector_width < 8;

inline void gemm(Cpu&, Operand<float> a, Operand<float> b, Output<float> c) {
  assert(a.rows() == c.matrix.rows && b.cols() == c.matrix.cols && a.cols() == b.rows());
  if (is_vector_product(a)) return vector_product(a, b, c);
#if defined(__AVX__)
  PanelGemm(a, b, c).run();
#else
  eigen::product_on_all_threads(a, b, c);
#endif
}

}  // namespace lnfree::cpu
