#include <lnfree/norm/dynamic_erf.hpp>
#include <lnfree/norm/dynamic_tanh.hpp>
#include <lnfree/norm/layer_norm.hpp>
#include <lnfree/norm/rms_norm.hpp>
#include <lnfree/norm/tapered.hpp>

#include "device/workbench.hpp"
#include "support/policies.hpp"

using namespace lnfree;
using namespace lnfree::test;

namespace {

/// Random parameters of a norm on a workbench, with the norm's names, and memory for their gradients.
template <class N, class Bench>
struct NormState {
  NormPointers<const typename Bench::Scalar, N> values;
  NormPointers<typename Bench::Accumulator, N> gradients;
  Bench& bench;
  Index cols;

  NormState(Bench& on, Index channels) : bench(on), cols(channels) {
    for_norm_parameters<N>([&](auto k) {
      const std::string name(norm_parameter<N, k()>.name);
      values.of[k()] = bench.scalars(name, 1, size(k)).data;
      if constexpr (norm_parameter<N, k()>.is_learned)
        gradients.of[k()] = bench.accumulators("d_" + name, 1, size(k)).data;
    });
  }

  /// Gradients are sums over the rows, and of a scalar over the columns, of terms of either sign.
  void results(Index rows) {
    for_learned_parameters<N>([&](auto k) {
      bench.result("d_" + std::string(norm_parameter<N, k()>.name), gradients.of[k()], size(k),
                   is_per_channel<N, k()> ? 0.5 : std::sqrt(static_cast<double>(rows * cols)));
    });
  }

 private:
  template <int k>
  Index size(std::integral_constant<int, k>) const {
    return is_per_channel<N, k> ? cols : 1;
  }
};

template <class D, class N>
void check_norm(Index rows, Index cols) {
  for (const Added added : {Added::nothing, Added::itself, Added::another}) {
    check<D>(std::string(N::name) + " " + sizes(rows, cols) + name(added), [&](auto& bench) {
      using Bench = std::remove_reference_t<decltype(bench)>;
      auto x = bench.scalars("x", rows, cols, 2);
      NormState<N, Bench> state(bench, cols);
      auto y = bench.scalar_output(added, "y", rows, cols);
      auto* kept = bench.template raw<NormRow<typename Bench::Accumulator>>(rows);
      auto d_y = bench.scalars("d_y", rows, cols);
      auto d_x = bench.scalar_output(added, "d_x", rows, cols);
      norm_forward(bench.device(), N{}, x, state.values, y, kept);
      norm_backward(bench.device(), N{}, x, state.values, kept, d_y, d_x, state.gradients);
      bench.result("y", y.matrix, 0.5);
      bench.result("d_x", d_x.matrix, 0.5);
      state.results(rows);
    });
  }
}

template <class D, class N>
void check_norm() {
  for (const Index rows : {1, 7, 128, 384}) {
    for (const Index cols : {5, 17, 64, 100}) check_norm<D, N>(rows, cols);
  }
  // For a GPU: more rows than all blocks process at once, and so many columns that a block processes fewer
  // rows.
  check_norm<D, N>(4101, 8);
  check_norm<D, N>(5, 2053);
  check_norm<D, N>(13, 2056);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(device_norm)

BOOST_AUTO_TEST_CASE_TEMPLATE(agrees, D, Devices) {
  check_norm<D, LayerNorm>();
  check_norm<D, RMSNorm>();
  check_norm<D, PlainNorm>();
  check_norm<D, BentNorm>();
  check_norm<D, DynamicTanh>();
  check_norm<D, DynamicErf>();
  check_norm<D, Tapered>();
  check_norm<D, Gate>();
}

#ifdef LNFREE_TEST_CUDA
BOOST_AUTO_TEST_CASE_TEMPLATE(refuses_rows_that_are_too_long, D, Devices) {
  using S = typename D::Scalar;
  D device;
  const Matrix<S> row(nullptr, 1, 12673);
  BOOST_CHECK_EXCEPTION(
      norm_backward(device, LayerNorm{}, Matrix<const S>(row), NormPointers<const S, LayerNorm>{},
                    static_cast<const NormRow<float>*>(nullptr), Matrix<const S>(row), Output<S>(row),
                    NormPointers<float, LayerNorm>{}),
      Error, [](const Error& error) {
        return std::string(error.what()).find("up to 12672 numbers, not 12673") != std::string::npos;
      });
}
#endif

// A mean far from 0 must not cost the variance its precision.
BOOST_AUTO_TEST_CASE_TEMPLATE(bears_a_large_mean, D, Devices) {
  check<D>("mean 100",
           [](auto& bench) {
             using Bench = std::remove_reference_t<decltype(bench)>;
             std::vector<double> values(4 * 64);
             for (std::size_t i = 0; i < values.size(); ++i)
               values[i] = 100 + std::sin(static_cast<double>(i));
             for (double& value : values) value = static_cast<float>(value);
             auto x = bench.scalars(values, 4, 64);
             NormState<LayerNorm, Bench> state(bench, 64);
             auto y = bench.poisoned_scalars(4, 64);
             auto* kept = bench.template raw<NormRow<typename Bench::Accumulator>>(4);
             norm_forward(bench.device(), LayerNorm{}, x, state.values, y, kept);
             bench.result("y", y);
           },
           {.tolerance = 5e-5});
}

BOOST_AUTO_TEST_SUITE_END()
