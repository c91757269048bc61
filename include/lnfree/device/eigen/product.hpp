#pragma once

#include <algorithm>

#include <lnfree/core/eigen.hpp>
#include <lnfree/core/tensor.hpp>
#include <lnfree/device/cores.hpp>

namespace lnfree::eigen {

#ifdef EIGEN_USE_BLAS
/// With a BLAS, Eigen needs no memory of its own.
template <class S>
struct ProductMemory : Eigen::internal::level3_blocking<S, S> {
  ProductMemory(Index /*rows*/, Index /*cols*/, Index /*depth*/) {}
};
#else
/// The blocks of both factors that Eigen packs, in memory that each thread keeps: the expression `a * b`
/// would allocate them on the heap each time.
template <class S>
class ProductMemory : public Eigen::internal::level3_blocking<S, S> {
 public:
  /// For a column-major result of `rows` rows.
  ProductMemory(Index rows, Index cols, Index depth) {
    Eigen::Index block_rows = rows, block_cols = cols, block_depth = depth;
    Eigen::internal::computeProductBlockingSizes<S, S>(block_depth, block_rows, block_cols, Eigen::Index{1});
    this->m_mc = block_rows;
    this->m_nc = block_cols;
    this->m_kc = block_depth;
    constexpr Eigen::Index line = 64 / sizeof(S);
    const Eigen::Index size_a = (block_rows * block_depth + line - 1) / line * line;
    static thread_local Eigen::Array<S, Eigen::Dynamic, 1> memory;
    if (memory.size() < size_a + block_cols * block_depth) memory.resize(size_a + block_cols * block_depth);
    this->m_blockA = memory.data();
    this->m_blockB = memory.data() + size_a;
  }
};
#endif

/// c += a b on the calling thread.
template <class S>
void add_product(Operand<S> a, Operand<S> b, Matrix<S> c) {
  if (a.cols() == 0) return;
  // Eigen's kernel computes a column-major result: C^T = B^T A^T.
  ProductMemory<S> memory(c.cols, c.rows, a.cols());
  const auto run = [&]<int OrderOfA, int OrderOfB>() {
    Eigen::internal::general_matrix_matrix_product<Eigen::Index, S, OrderOfA, false, S, OrderOfB, false,
                                                   Eigen::RowMajor, 1>::run(c.rows, c.cols, a.cols(),
                                                                            a.matrix.data, a.matrix.stride,
                                                                            b.matrix.data, b.matrix.stride,
                                                                            c.data, 1, c.stride, S(1), memory,
                                                                            nullptr);
  };
  constexpr int as_stored = Eigen::RowMajor, transposed = Eigen::ColMajor;
  if (a.transposed) {
    b.transposed ? run.template operator()<transposed, transposed>()
                 : run.template operator()<transposed, as_stored>();
  } else {
    b.transposed ? run.template operator()<as_stored, transposed>()
                 : run.template operator()<as_stored, as_stored>();
  }
}

/// c = a b, or a b plus an addend, on the calling thread.
template <class S>
void product(Operand<S> a, Operand<S> b, Output<S> c) {
  if (!c.adds()) {
    as_eigen(c.matrix).setZero();
  } else if (c.addend.data != c.matrix.data) {
    as_eigen(c.matrix) = as_eigen(c.addend);
  }
  add_product(a, b, c.matrix);
}

/// Rows or columns [begin, end) of a factor.
template <class S>
Operand<S> rows_of(Operand<S> m, Index begin, Index end) {
  if (m.transposed) return transpose(m.matrix.columns(begin, end - begin));
  return m.matrix.slice(begin, end - begin);
}
template <class S>
Operand<S> columns_of(Operand<S> m, Index begin, Index end) {
  if (m.transposed) return transpose(m.matrix.slice(begin, end - begin));
  return m.matrix.columns(begin, end - begin);
}

/// c = a b, or a b plus an addend. Threads split the longer side of the result, which is faster than Eigen's
/// own threading and deterministic for a given number of threads.
template <class S>
void product_on_all_threads(Operand<S> a, Operand<S> b, Output<S> c) {
  const Index rows = c.matrix.rows, cols = c.matrix.cols;
  const Index multiply_adds_per_line = a.cols() * std::min(rows, cols);
  const Index grain = std::max(Index{1}, elementwise_grain * 16 / std::max(Index{1}, multiply_adds_per_line));
  // Parts are whole tiles of Eigen, for any vector width.
  if (rows > cols) {
    parallel_for(
        rows, grain,
        [&](Index begin, Index end) { product(rows_of(a, begin, end), b, c.slice(begin, end - begin)); }, 4);
  } else {
    parallel_for(
        cols, grain,
        [&](Index begin, Index end) { product(a, columns_of(b, begin, end), c.columns(begin, end - begin)); },
        48);
  }
}

}  // namespace lnfree::eigen
