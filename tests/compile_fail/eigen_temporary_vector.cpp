// error: lnfree: as_eigen needs a vector that outlives the call, not a temporary

#include <vector>

#include <lnfree/core/eigen.hpp>

std::vector<double> numbers();
const auto view = lnfree::as_eigen(numbers());
