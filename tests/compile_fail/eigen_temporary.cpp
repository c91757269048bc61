// error: lnfree: as_matrix needs a matrix that outlives the call, not a temporary

#include <lnfree/core/eigen.hpp>

using RowMajor = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
const auto view = lnfree::as_matrix(RowMajor(3, 4));
