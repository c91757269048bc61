#pragma once

#include <lnfree/core/error.hpp>
#include <lnfree/core/macros.hpp>
#include <lnfree/core/tensor.hpp>

// nvcc gives many warnings in Eigen and takes 15 s longer, and the two compilers may align its types
// differently.
#if LNFREE_GPU_COMPILER
#error "lnfree: Eigen is for C++ sources; a CUDA source must not include lnfree/core/eigen.hpp"
#endif
#if !__has_include(<Eigen/Core>)
#error \
    "lnfree: <Eigen/Core> is not on the include path; add Eigen 3.4, or for the Cpu alone compile for AVX (-march=native)"
#endif

// g++ 12 wrongly warns that vectors in Eigen's AVX-512 code are uninitialized.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <Eigen/Core>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

#include <cstddef>
#include <string>
#include <type_traits>
#include <vector>

/// Views of lnfree's matrices for Eigen and of Eigen's for lnfree, in host memory: matrices of a Cpu or an
/// EigenCpu, or copies. Nothing is copied, and neither view owns its memory.
namespace lnfree {

/// A row-major matrix that Eigen owns.
template <class T>
using RowMajorMatrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// An Eigen::Map of row-major memory, read-only where T is const.
template <class T>
using EigenMap = Eigen::Map<
    std::conditional_t<std::is_const_v<T>, const RowMajorMatrix<std::remove_const_t<T>>, RowMajorMatrix<T>>,
    Eigen::Unaligned, Eigen::OuterStride<>>;

/// An Eigen view of `matrix` (rows, cols).
template <class T>
EigenMap<T> as_eigen(Matrix<T> matrix) {
  return {matrix.data, matrix.rows, matrix.cols, Eigen::OuterStride<>(matrix.stride)};
}

/// An lnfree view of a row-major Eigen matrix, map or block, valid as long as its memory.
template <class M>
auto as_matrix(M&& matrix) {
  using View = std::remove_cvref_t<M>;
  static_assert(std::is_lvalue_reference_v<M> || !std::is_base_of_v<Eigen::PlainObjectBase<View>, View>,
                "lnfree: as_matrix needs a matrix that outlives the call, not a temporary");
  static_assert((View::Flags & Eigen::DirectAccessBit) != 0 && bool(View::IsRowMajor) &&
                    int(View::InnerStrideAtCompileTime) == 1,
                "lnfree: as_matrix needs a row-major matrix, map or block without gaps in its rows");
  return Matrix(matrix.data(), Index{matrix.rows()}, Index{matrix.cols()}, Index{matrix.outerStride()});
}

/// A vector, such as an observer's numbers by layer, as an array (count): a view, valid as long as the
/// vector.
template <class T>
Eigen::Map<const Eigen::ArrayX<T>> as_eigen(const std::vector<T>& numbers) {
  return {numbers.data(), static_cast<Eigen::Index>(numbers.size())};
}
/// Refuses a temporary vector, which the view would outlive.
template <class T>
void as_eigen(const std::vector<T>&&) {
  static_assert(sizeof(T) == 0, "lnfree: as_eigen needs a vector that outlives the call, not a temporary");
}

/// A table such as EntropyObserver's entropies [layer][head] as an array (rows, cols) that owns its numbers.
/// Throws Error where the rows differ in length.
template <class T>
Eigen::Array<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> to_eigen(
    const std::vector<std::vector<T>>& table) {
  const std::size_t cols = table.empty() ? 0 : table[0].size();
  Eigen::Array<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> array(table.size(), cols);
  for (std::size_t i = 0; i < table.size(); ++i) {
    if (table[i].size() != cols) {
      throw Error("a table with " + std::to_string(cols) + " columns in row 0 and " +
                  std::to_string(table[i].size()) + " in row " + std::to_string(i) + " is not an array");
    }
    array.row(static_cast<Eigen::Index>(i)) = as_eigen(table[i]).transpose();
  }
  return array;
}

}  // namespace lnfree
