/// What devices that multiply in eight bits have in common.
#include <string>
#include <type_traits>
#include <vector>

#include <lnfree/activation/relu.hpp>

#include "device/rounded_weights.hpp"
#include "device/workbench.hpp"
#include "support/eight_bits.hpp"

using namespace lnfree;
using namespace lnfree::test;

namespace {

/// Where eight bits do not suit, the product is Cuda's to the bit.
template <class EightBits>
void check_other_products() {
  LNFREE_LOG_SEED();
  const auto check = [](const char* what, Index m, Index n, Index k, Index stride, Index rows, Index first,
                        bool is_same) {
    const auto result = [&]<class D>(D) {
      Workbench<D> bench(seed());
      const Matrix<BFloat16> x = bench.scalars("x", m, k, 1, stride),
                             whole = bench.scalars("w", k, n + first);
      const Matrix<BFloat16> w = whole.columns(first, n), y = bench.poisoned_scalars(m, n);
      if constexpr (std::is_same_v<D, EightBits>) {
        const Rounded<D> rounded(bench.device(), {whole}, rows);
        multiply<D, ReLU>(bench.device(), x, w, false, y);
      } else {
        multiply<D, ReLU>(bench.device(), x, w, false, y);
      }
      const auto numbers = bench.download(y.data, y.size());
      return std::vector<double>(numbers.begin(), numbers.end());
    };
    BOOST_TEST((distance(result(make_device<EightBits>()), result(make_device<Cuda>())) == 0) == is_same,
               what);
  };
  check("what suits", 32, 48, 64, 64, 32, 0, false);
  check("gaps that suit", 32, 48, 64, 72, 32, 16, false);
  check("rows", 33, 48, 64, 64, 48, 0, true);
  check("columns", 32, 40, 64, 64, 32, 0, true);
  check("the first column", 32, 48, 64, 64, 32, 8, true);
  check("the sum's length", 32, 48, 72, 72, 32, 0, true);
  check("gaps", 32, 48, 64, 68, 32, 0, true);
  check("more rows than planned", 32, 48, 64, 64, 16, 0, true);
  check("one row", 1, 48, 64, 64, 32, 0, true);
  if constexpr (std::is_same_v<EightBits, CudaInt8>) {
    constexpr Index longest = cuda::max_int8_depth;
    check("the longest sum", 16, 16, longest, longest, 16, 0, false);
    check("a longer sum", 16, 16, longest + 16, longest + 16, 16, 0, true);
  }
}

#ifndef __CUDACC__
/// A device needs this compute capability.
template <class EightBits>
void check_refusal(int capability, const std::string& message) {
  cuda::simulated_capability = capability - 1;
  BOOST_CHECK_EXCEPTION(EightBits(), NoDevice,
                        [&](const NoDevice& error) { return error.what() == message; });
  cuda::simulated_capability = capability;
  BOOST_CHECK_NO_THROW(EightBits());
  cuda::simulated_capability = 90;
}
#endif

}  // namespace

BOOST_AUTO_TEST_SUITE(products_in_eight_bits)

BOOST_AUTO_TEST_CASE(others_than_fp8_s_are_those_of_bf16, *needs_fp8) {
  check_other_products<CudaFP8>();
}

BOOST_AUTO_TEST_CASE(others_than_int8_s_are_those_of_bf16, *needs_int8) {
  check_other_products<CudaInt8>();
}

#ifndef __CUDACC__
BOOST_AUTO_TEST_CASE(older_gpus_are_refused) {
  check_refusal<CudaFP8>(
      89,
      "products in FP8 need a GPU of compute capability 8.9 or higher, and simulated GPU has 8.8; use a "
      "program without _fp8 in its name, which computes in bf16");
  check_refusal<CudaInt8>(
      80,
      "products in INT8 need a GPU of compute capability 8.0 or higher, and simulated GPU has 7.9; use a "
      "program without _int8 in its name, which computes in bf16");
}
#endif

BOOST_AUTO_TEST_SUITE_END()
