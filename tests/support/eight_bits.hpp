#pragma once

#include <type_traits>

#include <boost/test/unit_test.hpp>

#include <lnfree/core/error.hpp>
#include <lnfree/device/cuda/fp8.hpp>
#include <lnfree/device/cuda/int8.hpp>

namespace lnfree::test {

/// Whether the GPU multiplies in the format of this device.
template <class Device>
boost::test_tools::assertion_result is_there(boost::unit_test::test_unit_id) {
  static const bool there = [] {
    try {
      Device();
      return true;
    } catch (const NoDevice&) {
      return false;
    }
  }();
  return there;
}

/// For BOOST_AUTO_TEST_CASE(name, *needs_fp8): skipped on a GPU that does not multiply in FP8.
inline const boost::unit_test::precondition needs_fp8(is_there<CudaFP8>);
/// The same for INT8.
inline const boost::unit_test::precondition needs_int8(is_there<CudaInt8>);

#ifndef __CUDACC__
/// How often a kernel has run in the simulator that only rounds a factor. In INT8 these may be weights, too.
template <class Device>
int separate_roundings() {
  using namespace cuda;
  if constexpr (std::is_base_of_v<CudaFP8, Device>) {
    return runs_of(round_kernel<RoundRows<E4M3>>) + runs_of(round_kernel<RoundRows<E5M2>>);
  } else {
    return runs_of(round_rows_kernel<BFloat16>);
  }
}
#endif

}  // namespace lnfree::test
