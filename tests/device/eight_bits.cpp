/// What devices that multiply in eight bits have in common.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <initializer_list>
#include <string>
#include <type_traits>
#include <vector>

#include <lnfree/activation/gelu.hpp>
#include <lnfree/activation/leaky_learnable.hpp>
#include <lnfree/activation/relu.hpp>
#include <lnfree/norm/dynamic_tanh.hpp>
#include <lnfree/norm/layer_norm.hpp>
#include <lnfree/norm/rms_norm.hpp>

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

/// What is special about a matrix of normal numbers.
enum class Special { nothing, zeros, row_of_zeros, infinity, nan };

/// Inputs of a primitive, all of the same size and with the same Special.
template <class D>
struct Inputs {
  Workbench<D>& bench;
  Special special;
  double std;

  Matrix<BFloat16> matrix(const char* name, Index rows, Index cols, Index stride = 0) const {
    const Matrix<BFloat16> m = bench.scalars(name, rows, cols, std, stride);
    auto numbers = bench.download(m.data, rows * m.stride);
    for (Index i = 0; i < rows; ++i) {
      for (Index j = 0; j < cols; ++j) {
        BFloat16& number = numbers[static_cast<std::size_t>(i * m.stride + j)];
        const bool is_zero = special == Special::zeros || (special == Special::row_of_zeros && i == 3);
        if (is_zero) number = BFloat16(0.0f);
        if (i == rows / 2 && j == cols - 3 && special == Special::infinity) number = BFloat16(-INFINITY);
        if (i == rows / 2 && j == cols - 3 && special == Special::nan) number = BFloat16(NAN);
      }
    }
    copy_to_device(bench.device(), m.data, numbers.data(), numbers.size() * sizeof(BFloat16));
    return m;
  }
  Output<BFloat16> output(Added added, Index rows, Index cols) const {
    const Matrix<BFloat16> poisoned = bench.poisoned_scalars(rows, cols);
    if (added == Added::nothing) return poisoned;
    const Matrix<BFloat16> addend = matrix("addend", rows, cols);
    return added == Added::itself ? accumulate(addend) : Output<BFloat16>(poisoned, addend);
  }
};

/// A few times a primitive that makes a factor, and the product of the factor and the identity, which shows
/// what each number was rounded to.
constexpr int times = 4;
struct Outcome {
  std::vector<Result> results;
  int separate_roundings = 0;
};
/// make(inputs, announce) calls announce(factor) before the primitive that writes the factor.
template <class D, class Make>
Outcome outcome(Index cols, bool is_gradient, bool announced, Special special, const Make& make) {
  Workbench<D> bench(seed());
  std::vector<double> identity(static_cast<std::size_t>(cols * cols));
  for (Index i = 0; i < cols; ++i) identity[static_cast<std::size_t>(i * cols + i)] = 1;
  const Matrix<const BFloat16> w = bench.scalars(identity, cols, cols);
  const Rounded<D> rounded(bench.device(), {w}, 4112);
#ifndef __CUDACC__
  const int before = separate_roundings<D>();
#endif
  // Different numbers each time, at first with the same scale, then with another.
  for (const double std : {50.0, -50.0, 48.0, 1.0}) {
    Matrix<const BFloat16> factor;
    make(Inputs<D>{bench, special, std}, [&](Matrix<const BFloat16> made) {
      factor = made;
      if (announced) expect_product(bench.device(), made, w);
    });
    const Matrix<BFloat16> y = bench.poisoned_scalars(factor.rows, cols);
    multiply<D, Unactivated>(bench.device(), factor, w, is_gradient, y);
    bench.result("factor", factor);
    bench.result("product", y);
  }
  Outcome outcome{bench.results()};
#ifndef __CUDACC__
  outcome.separate_roundings = separate_roundings<D>() - before;
#endif
  return outcome;
}

/// A factor that is rounded where it is made is the one that is rounded separately. `is_fused`: and it is
/// rounded where it is made.
template <class D, class Make>
void check_factor(const std::string& label, Index cols, bool is_gradient, bool is_fused, const Make& make,
                  std::initializer_list<Special> specials = {Special::nothing}) {
  LNFREE_LOG_SEED();
  for (const Special special : specials) {
    const Outcome separate = outcome<D>(cols, is_gradient, false, special, make);
    const Outcome fused = outcome<D>(cols, is_gradient, true, special, make);
    const std::string where =
        label + " in " + D::Format::name + ", case " + std::to_string(static_cast<int>(special));
    BOOST_REQUIRE_EQUAL(separate.results.size(), fused.results.size());
    for (std::size_t r = 0; r < separate.results.size(); ++r) {
      const Result &a = fused.results[r], &b = separate.results[r];
      const bool same =
          std::equal(a.values.begin(), a.values.end(), b.values.begin(), b.values.end(),
                     [](double x, double y) { return x == y || (std::isnan(x) && std::isnan(y)); });
      BOOST_TEST(same, where << ": " << a.name << " " << r);
    }
#ifndef __CUDACC__
    BOOST_TEST(separate.separate_roundings == times, where);
    BOOST_TEST(fused.separate_roundings == (is_fused ? 0 : times), where);
#endif
  }
}
constexpr auto every_special = {Special::nothing, Special::zeros, Special::row_of_zeros, Special::infinity,
                                Special::nan};

template <class D, class N>
void check_norm_factors(Index rows, Index cols, std::initializer_list<Added> all,
                        std::initializer_list<Special> specials = {Special::nothing}, Index offset = 0) {
  const bool is_fused = offset == 0;
  for (const Added added : all) {
    const auto parameters = [=](Workbench<D>& bench) {
      NormPointers<const BFloat16, N> values;
      for_norm_parameters<N>([&](auto k) {
        const std::string name(norm_parameter<N, k()>.name);
        values.of[k()] = bench.scalars(name, 1, cols + offset).data + offset;
      });
      return values;
    };
    const std::string label = std::string(N::name) + " " + sizes(rows, cols) + name(added);
    check_factor<D>(
        label, cols, false, is_fused,
        [&](const Inputs<D>& inputs, const auto& announce) {
          auto* const kept = inputs.bench.template raw<NormRow<float>>(rows);
          const Output<BFloat16> y = inputs.output(added, rows, cols);
          const Matrix<const BFloat16> x = inputs.matrix("x", rows, cols, cols + 8);
          announce(y.matrix);
          norm_forward(inputs.bench.device(), N{}, x, parameters(inputs.bench), y, kept);
        },
        specials);
    check_factor<D>(
        label + ", backward", cols, true, is_fused,
        [&](const Inputs<D>& inputs, const auto& announce) {
          auto& bench = inputs.bench;
          auto* const kept = bench.template raw<NormRow<float>>(rows);
          const auto values = parameters(bench);
          const Matrix<const BFloat16> x = bench.scalars("x", rows, cols);
          norm_forward(bench.device(), N{}, x, values, bench.poisoned_scalars(rows, cols), kept);
          NormPointers<float, N> gradients;
          for_learned_parameters<N>(
              [&](auto k) { gradients.of[k()] = bench.accumulators("d", 1, cols).data; });
          const Output<BFloat16> d_x = inputs.output(added, rows, cols);
          announce(d_x.matrix);
          norm_backward(bench.device(), N{}, x, values, kept, inputs.matrix("d_y", rows, cols), d_x,
                        gradients);
          for_learned_parameters<N>([&](auto k) {
            bench.result("gradient", gradients.of[k()], is_per_channel<N, k()> ? cols : 1);
          });
        },
        specials);
  }
}

template <class D>
void check_norm_factors() {
  check_norm_factors<D, LayerNorm>(16, 48, {Added::nothing}, every_special);
  check_norm_factors<D, LayerNorm>(48, 80, {Added::itself});
  check_norm_factors<D, LayerNorm>(16, 272, {Added::another});
  check_norm_factors<D, RMSNorm>(112, 16, {Added::itself});
  check_norm_factors<D, DynamicTanh>(16, 48, {Added::nothing}, {Special::zeros, Special::row_of_zeros});
  check_norm_factors<D, LayerNorm>(32, 48, {Added::nothing}, {Special::nothing}, 1);  // not aligned
  // More rows than there are warps in the backward pass, whose rows have scales of their own in INT8.
  if (std::is_same_v<D, CudaInt8>) check_norm_factors<D, LayerNorm>(4112, 16, {Added::nothing});
}

template <class D, class A>
void check_activation_factors(Index rows, Index cols, Index gap = 0,
                              std::initializer_list<Special> specials = {Special::nothing}) {
  const bool is_whole = gap % 8 == 0, needs_rows = std::is_same_v<D, CudaInt8>;
  const std::string label = std::string(A::name) + " " + sizes(rows, cols, cols + gap);
  // In FP8 a single row is taken, which a matrix with gaps is not.
  const bool is_fused = is_whole && (needs_rows || gap == 0);
  check_factor<D>(
      label, cols, false, is_fused,
      [&](const Inputs<D>& inputs, const auto& announce) {
        const Matrix<const BFloat16> x = inputs.matrix("x", rows, cols, cols + gap);
        const Matrix<BFloat16> y = inputs.bench.poisoned_scalars(rows, cols);
        announce(y);
        activation_forward(inputs.bench.device(), A{}, x, inputs.bench.scalars("slope", 1, 1).data, y);
      },
      specials);
  check_factor<D>(
      label + ", backward", cols, true, is_fused && !(needs_rows && LearnableActivation<A>),
      [&](const Inputs<D>& inputs, const auto& announce) {
        auto& bench = inputs.bench;
        const Matrix<const BFloat16> saved = bench.scalars("x", rows, cols, 1, cols + gap);
        const Matrix<BFloat16> d_y = inputs.matrix("d_y", rows, cols);
        const auto d_slope = bench.accumulators("d_slope", 1, 1);
        announce(d_y);
        activation_backward(bench.device(), A{}, saved, bench.scalars("slope", 1, 1).data, d_y, d_slope.data);
        bench.result("d_slope", d_slope);
      },
      specials);
}

template <class D>
void check_activation_factors() {
  check_activation_factors<D, GELU>(16, 48, 0, every_special);
  check_activation_factors<D, GELU>(48, 80);
  check_activation_factors<D, ReLU>(16, 272);
  check_activation_factors<D, ReLU>(16, 48, 8);
  check_activation_factors<D, ReLU>(16, 48, 1);
  check_activation_factors<D, LeakyLearnable<Scope::global>>(32, 48);
}

template <class D>
void check_attention_factors() {
  const auto check_shape = [](AttentionShape shape, std::initializer_list<Special> specials) {
    const Index rows = shape.rows(), width = shape.width();
    // A block has a head, and so a part of a row, for which INT8 has no scale.
    const bool is_fused = std::is_same_v<D, CudaFP8> && shape.head_dim % 8 == 0;
    const std::string label = "attention " + sizes(shape.batch, shape.length, shape.heads, shape.head_dim);
    check_factor<D>(
        label, width, false, is_fused,
        [&](const Inputs<D>& inputs, const auto& announce) {
          auto& bench = inputs.bench;
          const Matrix<BFloat16> y = bench.poisoned_scalars(rows, width);
          float* const log_sum = bench.template raw<float>(rows * shape.heads);
          float* const workspace = bench.template raw<float>(attention_workspace(bench.device(), shape));
          const Matrix<const BFloat16> qkv = inputs.matrix("qkv", rows, 3 * width);
          announce(y);
          attention_forward(bench.device(), shape, qkv, y, log_sum, workspace, Unobserved{});
        },
        specials);
    check_factor<D>(
        label + ", backward", 3 * width, true, is_fused, [&](const Inputs<D>& inputs, const auto& announce) {
          auto& bench = inputs.bench;
          const Matrix<BFloat16> y = bench.poisoned_scalars(rows, width);
          float* const log_sum = bench.template raw<float>(rows * shape.heads);
          float* const workspace = bench.template raw<float>(attention_workspace(bench.device(), shape));
          const Matrix<const BFloat16> qkv = bench.scalars("qkv", rows, 3 * width);
          attention_forward(bench.device(), shape, qkv, y, log_sum, workspace, Unobserved{});
          const Matrix<BFloat16> d_qkv = bench.poisoned_scalars(rows, 3 * width);
          const Matrix<const BFloat16> d_y = inputs.matrix("d_y", rows, width);
          announce(d_qkv);
          attention_backward(bench.device(), shape, qkv, y, log_sum, d_y, d_qkv, workspace, Unobserved{});
        });
  };
  check_shape({1, 80, 3, 16}, {Special::nothing});  // more than a tile
  check_shape({16, 3, 2, 24}, every_special);
  check_shape({2, 8, 4, 12}, {Special::nothing});  // heads are not whole packs
}

}  // namespace

BOOST_AUTO_TEST_SUITE(products_in_eight_bits)

BOOST_AUTO_TEST_CASE(norms_round_what_they_make_to_fp8, *needs_fp8) {
  check_norm_factors<CudaFP8>();
}
BOOST_AUTO_TEST_CASE(norms_round_what_they_make_to_int8, *needs_int8) {
  check_norm_factors<CudaInt8>();
}
BOOST_AUTO_TEST_CASE(activations_round_what_they_make_to_fp8, *needs_fp8) {
  check_activation_factors<CudaFP8>();
}
BOOST_AUTO_TEST_CASE(activations_round_what_they_make_to_int8, *needs_int8) {
  check_activation_factors<CudaInt8>();
}
BOOST_AUTO_TEST_CASE(attention_rounds_what_it_makes_to_fp8, *needs_fp8) {
  check_attention_factors<CudaFP8>();
}
BOOST_AUTO_TEST_CASE(attention_s_results_are_rounded_separately_to_int8, *needs_int8) {
  check_attention_factors<CudaInt8>();
}

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
