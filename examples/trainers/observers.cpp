#include "observers.hpp"

template Eigen::VectorXd lnfree::eigenvalues<double>(const lnfree::RowMajorMatrix<double>&);
template double lnfree::largest_singular_value<float>(lnfree::Matrix<const float>);
template void lnfree::SignalObserver::record_stream<float>(int, lnfree::BatchShape,
                                                           lnfree::Matrix<const float>);
