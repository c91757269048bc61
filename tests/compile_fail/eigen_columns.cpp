// error: lnfree: as_matrix needs a row-major matrix, map or block without gaps in its rows

#include <lnfree/core/eigen.hpp>

Eigen::MatrixXf columns(3, 4);
const auto view = lnfree::as_matrix(columns);
