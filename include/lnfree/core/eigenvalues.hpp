#pragma once

#include <lnfree/core/eigen.hpp>

// As in core/eigen.hpp.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <Eigen/Eigenvalues>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

namespace lnfree {

/// The eigenvalues of a symmetric matrix in ascending order; only the lower half is read. It takes seconds to
/// compile, so a program of many sources should instantiate it in one of them, as
/// examples/trainers/observers.hpp shows.
template <class T>
Eigen::VectorX<T> eigenvalues(const RowMajorMatrix<T>& symmetric) {
  return Eigen::SelfAdjointEigenSolver<RowMajorMatrix<T>>(symmetric, Eigen::EigenvaluesOnly).eigenvalues();
}

}  // namespace lnfree
