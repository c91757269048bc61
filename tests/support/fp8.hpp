#pragma once

#include <boost/test/unit_test.hpp>

#include <lnfree/core/error.hpp>
#include <lnfree/device/cuda/fp8.hpp>

namespace lnfree::test {

/// For BOOST_AUTO_TEST_CASE(name, *needs_fp8): skipped on a GPU that does not multiply in FP8.
inline const boost::unit_test::precondition needs_fp8([](boost::unit_test::test_unit_id) {
  static const bool is_there = [] {
    try {
      CudaFP8();
      return true;
    } catch (const NoDevice&) {
      return false;
    }
  }();
  return boost::test_tools::assertion_result(is_there);
});

}  // namespace lnfree::test
