#pragma once

#include <lnfree/core/eigenvalues.hpp>
#include <lnfree/observer/signal_observer.hpp>
#include <lnfree/observer/weight_observer.hpp>

// Code that uses Eigen takes seconds to compile, so it is compiled once for all trainers, in observers.cpp.
extern template Eigen::VectorXd lnfree::eigenvalues<double>(const lnfree::RowMajorMatrix<double>&);
extern template double lnfree::largest_singular_value<float>(lnfree::Matrix<const float>);
extern template void lnfree::SignalObserver::record_stream<float>(int, lnfree::BatchShape,
                                                                  lnfree::Matrix<const float>);
