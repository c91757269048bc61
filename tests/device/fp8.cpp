#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <iterator>
#include <limits>
#include <tuple>
#include <vector>

#include <lnfree/activation/gelu.hpp>
#include <lnfree/activation/leaky_learnable.hpp>
#include <lnfree/activation/relu.hpp>

#include "device/rounded_weights.hpp"
#include "device/workbench.hpp"
#include "support/eight_bits.hpp"

using namespace lnfree;
using namespace lnfree::test;

namespace {

template <class F>
F of_code(unsigned code) {
  return std::bit_cast<F>(static_cast<std::uint8_t>(code));
}
template <class F>
unsigned code_of(F number) {
  return std::bit_cast<std::uint8_t>(number);
}

/// By the definition of such a format: (1 + fraction) 2^(exponent - bias), without the 1 below the smallest
/// exponent.
double number_of(unsigned code, int mantissa, int bias) {
  const int exponent = static_cast<int>(code & 0x7fu) >> mantissa, one = 1 << mantissa;
  const int fraction = static_cast<int>(code) & (one - 1);
  const double size = exponent == 0 ? std::ldexp(fraction, 1 - bias - mantissa)
                                    : std::ldexp(one + fraction, exponent - bias - mantissa);
  return code & 0x80u ? -size : size;
}

/// Every code, every number half way between two, and random ones against a search for the nearest.
template <class F>
void check_format(int mantissa, int bias, unsigned largest) {
  std::vector<float> numbers;  // that a code stands for, from 0 on
  for (unsigned code = 0; code <= largest; ++code) {
    numbers.push_back(static_cast<float>(number_of(code, mantissa, bias)));
    for (const unsigned sign : {0u, 0x80u}) {
      const float x = of_code<F>(code | sign);
      BOOST_TEST(x == number_of(code | sign, mantissa, bias), code);
      BOOST_TEST(std::signbit(x) == (sign != 0), code);
      BOOST_TEST(code_of(F(x)) == (code | sign), code);
    }
  }
  BOOST_TEST(F::max == numbers.back());
  const auto nearest = [&](float size) {
    const auto above =
        static_cast<unsigned>(std::lower_bound(numbers.begin(), numbers.end(), size) - numbers.begin());
    if (above == numbers.size()) return largest;
    if (above == 0) return 0u;
    const double to_above = double{numbers[above]} - size, to_below = size - double{numbers[above - 1]};
    return to_above < to_below || (to_above == to_below && above % 2 == 0) ? above : above - 1;
  };
  const auto check = [&](float size) {
    BOOST_TEST(code_of(F(size)) == nearest(size), size);
    BOOST_TEST(code_of(F(-size)) == (nearest(size) | 0x80u), -size);
  };
  for (unsigned code = 0; code < largest; ++code) {
    const float middle = (numbers[code] + numbers[code + 1]) / 2;
    for (const float x : {std::nextafter(middle, 0.0f), middle, std::nextafter(middle, INFINITY)}) check(x);
  }
  const Philox random(seed(), stream_of("numbers"));
  for (std::uint64_t i = 0; i < 5000; ++i) {
    const auto x = std::bit_cast<float>(random(i)[0] & 0x7fffffffu);
    if (std::isfinite(x)) check(x);
    check(static_cast<float>(random(i)[1]) * 0x1p-20f);
  }
  for (const float large : {2 * F::max, std::numeric_limits<float>::max(), INFINITY}) check(large);
  BOOST_TEST(std::isnan(static_cast<float>(F(NAN))));
  BOOST_TEST(std::isnan(static_cast<float>(F(-NAN))));
}

/// The least power of two of which F can hold all numbers.
template <class F>
float scale_of(const std::vector<BFloat16>& numbers) {
  float max = 0;
  for (const BFloat16 x : numbers) max = std::max(max, std::abs(static_cast<float>(x)));
  float scale = 0x1p-100f;
  while (max / scale > F::max) scale *= 2;
  return scale;
}

/// What the products of rounded factors see of a matrix.
template <class F>
std::vector<double> as_rounded(const std::vector<BFloat16>& numbers) {
  const float scale = scale_of<F>(numbers);
  std::vector<double> rounded;
  for (const BFloat16 x : numbers)
    rounded.push_back(double{scale} * static_cast<float>(F(static_cast<float>(x) / scale)));
  return rounded;
}

/// What a sum may be off by, of the sum of its terms' magnitudes. Tensor cores keep 14 bits of a sum in FP8.
double sum_precision([[maybe_unused]] Index terms) {
#ifdef __CUDACC__
  return 0x1p-12;
#else
  return static_cast<double>(terms) * 0x1p-24;
#endif
}

/// Holds y against x w + added, or x w^T + added, where x is rounded to F, and w is some columns of a weight.
template <class F, class Device>
void check_product(Workbench<Device>& bench, Matrix<const BFloat16> x, Matrix<const BFloat16> weight,
                   Matrix<const BFloat16> w, bool transposed, const std::vector<double>& added, bool relu,
                   Matrix<const BFloat16> y) {
  std::vector<BFloat16> factor;
  for (Index i = 0; i < x.rows; ++i)
    std::ranges::copy(bench.download(x.row(i), x.cols), std::back_inserter(factor));
  const auto a = as_rounded<F>(factor);
  const auto b = as_rounded<E4M3>(bench.download(weight.data, weight.size()));
  const auto result = bench.download(y.data, y.rows * y.stride);
  const Index first = w.data - weight.data;
  double worst = 0;
  for (Index i = 0; i < y.rows; ++i) {
    for (Index j = 0; j < y.cols; ++j) {
      double sum = 0, size = 0;
      for (Index k = 0; k < x.cols; ++k) {
        const double term = a[i * x.cols + k] * b[first + (transposed ? j * w.stride + k : k * w.stride + j)];
        sum += term;
        size += std::abs(term);
      }
      if (!added.empty()) sum += added[i * y.cols + j];
      if (relu) sum = std::max(sum, 0.0);
      const double bound = 0x1p-8 * std::abs(sum) + sum_precision(x.cols) * size;
      worst = std::max(worst, std::abs(static_cast<double>(result[i * y.stride + j]) - sum) / bound);
    }
  }
  BOOST_TEST(worst <= 1, "off by " << worst << " of what rounding allows");
}
/// The same for a weight of a layer.
void check_product(Workbench<CudaFP8>& bench, Matrix<const BFloat16> x, Matrix<const BFloat16> weight,
                   Matrix<const BFloat16> w, bool backwards, const std::vector<double>& added, bool relu,
                   Matrix<const BFloat16> y) {
  backwards ? check_product<E5M2>(bench, x, weight, w, backwards, added, relu, y)
            : check_product<E4M3>(bench, x, weight, w, backwards, added, relu, y);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(device_fp8)

BOOST_AUTO_TEST_CASE(every_code_and_the_nearest_number) {
  LNFREE_LOG_SEED();
  check_format<E4M3>(3, 7, 0x7e);
  check_format<E5M2>(2, 15, 0x7b);
  BOOST_TEST(std::isnan(static_cast<float>(of_code<E4M3>(0x7f))));
  BOOST_TEST(static_cast<float>(of_code<E5M2>(0xfc)) == -INFINITY);
  for (const unsigned code : {0x7du, 0x7eu, 0x7fu, 0xfdu})
    BOOST_TEST(std::isnan(static_cast<float>(of_code<E5M2>(code))));
}

/// What is added to a product: nothing, what the result overwrites, or another matrix.
enum class Addend { none, in_place, elsewhere };

/// Checks y = x w + addend + bias, or with w^T, where n is the number of columns of y; then ReLU if `relu`.
void check_epilogue(Workbench<CudaFP8>& bench, Matrix<const BFloat16> x, Matrix<const BFloat16> w,
                    bool backwards, Index n, double std, Addend addend, bool has_bias, bool relu) {
  const Matrix<const BFloat16> bias = bench.scalars("bias", 1, n, std);
  const Matrix<BFloat16> y = addend == Addend::in_place ? bench.scalars("addend", x.rows, n, std)
                                                        : bench.poisoned_scalars(x.rows, n, n + 8);
  Matrix<const BFloat16> other;
  if (addend == Addend::in_place) other = y;
  if (addend == Addend::elsewhere) other = bench.scalars("addend", x.rows, n, std);
  std::vector<double> added(static_cast<std::size_t>(x.rows * n));
  if (addend != Addend::none) std::ranges::copy(bench.download(other.data, other.size()), added.begin());
  const auto biases = bench.download(bias.data, n);
  for (std::size_t i = 0; has_bias && i < added.size(); ++i)
    added[i] += static_cast<double>(biases[i % static_cast<std::size_t>(n)]);
  const BFloat16* const given = has_bias ? bias.data : nullptr;
  if (relu) {
    multiply<CudaFP8, ReLU>(bench.device(), x, w, backwards, {y, other}, {given});
  } else {
    multiply<CudaFP8, Unactivated>(bench.device(), x, w, backwards, {y, other}, {given});
  }
  check_product(bench, x, w, w, backwards, added, relu, y);
}

BOOST_AUTO_TEST_CASE(products_are_those_of_rounded_factors, *needs_fp8) {
  LNFREE_LOG_SEED();
  for (const auto& [m, n, k] : {std::tuple<Index, Index, Index>{32, 80, 144}, {16, 16, 16}, {48, 192, 64}}) {
    for (const bool backwards : {false, true}) {
      for (const double std : {1.0, 1e-7, 3e4}) {
        Workbench<CudaFP8> bench(seed());
        const Matrix<const BFloat16> x = bench.scalars("x", m, k, std);
        const Matrix<const BFloat16> w =
            backwards ? bench.scalars("w", n, k, 0.02) : bench.scalars("w", k, n, 0.02);
        const Rounded<CudaFP8> rounded(bench.device(), {w}, m);
        for (const Addend addend : {Addend::none, Addend::in_place, Addend::elsewhere}) {
          for (const int epilogue : {0, 1, 2, 3})
            check_epilogue(bench, x, w, backwards, n, std, addend, epilogue % 2 == 1, epilogue >= 2);
        }
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(products_with_some_columns_of_a_weight, *needs_fp8) {
  LNFREE_LOG_SEED();
  Workbench<CudaFP8> bench(seed());
  const Matrix<const BFloat16> whole = bench.scalars("w", 64, 96), w = whole.columns(32, 48);
  const Rounded<CudaFP8> rounded(bench.device(), {whole}, 32);
  for (const bool backwards : {false, true}) {
    const Matrix<const BFloat16> x = bench.scalars("x", 32, backwards ? 48 : 64);
    const Matrix<BFloat16> y = bench.poisoned_scalars(32, backwards ? 64 : 48);
    multiply<CudaFP8, Unactivated>(bench.device(), x, w, backwards, y);
    check_product(bench, x, whole, w, backwards, {}, false, y);
  }
}

// Logits have inputs for factors and the transpose of a weight.
BOOST_AUTO_TEST_CASE(products_with_the_output_matrix, *needs_fp8) {
  LNFREE_LOG_SEED();
  Workbench<CudaFP8Head> bench(seed());
  const Matrix<const BFloat16> table = bench.scalars("table", 80, 48),
                               weight = bench.scalars("weight", 48, 64);
  const Rounded<CudaFP8Head> rounded(bench.device(), {weight}, 32, table);
  const Matrix<const BFloat16> x = bench.scalars("x", 32, 48),
                               d_logits = bench.scalars("d", 32, 80, 1e-3, 96);
  const Matrix<BFloat16> logits = bench.poisoned_scalars(32, 80, 96), d_x = bench.poisoned_scalars(32, 48);
  multiply<CudaFP8Head, Unactivated>(bench.device(), x, table, true, logits);
  check_product<E4M3>(bench, x, table, table, true, {}, false, logits);
  multiply<CudaFP8Head, Unactivated>(bench.device(), d_logits, table, false, d_x);
  check_product<E5M2>(bench, d_logits, table, table, false, {}, false, d_x);
  const Matrix<BFloat16> y = bench.poisoned_scalars(32, 64);
  multiply<CudaFP8Head, Unactivated>(bench.device(), x, weight, false, y);
  check_product<E4M3>(bench, x, weight, weight, false, {}, false, y);
}

// A matrix may hold the format's largest number and its smallest one at a time.
BOOST_AUTO_TEST_CASE(the_whole_range_is_used, *needs_fp8) {
  for (const bool backwards : {false, true}) {
    for (const double unit : {1.0, 0x1p-40, 0x1p30}) {
      const double largest = unit * static_cast<double>(backwards ? E5M2::max : E4M3::max);
      const double smallest = unit * (backwards ? 0x1p-16 : 0x1p-9);
      std::vector<double> numbers(16 * 16), one(16 * 16);
      numbers[3] = largest;
      numbers[16 + 3] = smallest;
      for (std::size_t i = 0; i < 16; ++i) one[17 * i] = 1;
      Workbench<CudaFP8> bench(seed());
      const Matrix<BFloat16> w = bench.scalars(one, 16, 16), y = bench.poisoned_scalars(16, 16);
      const Rounded<CudaFP8> rounded(bench.device(), {w}, 16);
      multiply<CudaFP8, Unactivated>(bench.device(), bench.scalars(numbers, 16, 16), w, backwards, y);
      BOOST_TEST(static_cast<float>(bench.download(y.row(0) + 3, 1)[0]) == largest);
      BOOST_TEST(static_cast<float>(bench.download(y.row(1) + 3, 1)[0]) == smallest);
    }
  }
}

// The scale of the product before is only where a product begins to look for its own.
BOOST_AUTO_TEST_CASE(bits_do_not_depend_on_what_was_multiplied_before, *needs_fp8) {
  LNFREE_LOG_SEED();
  Workbench<CudaFP8> bench(seed());
  const Matrix<BFloat16> w = bench.scalars("w", 64, 96);
  Rounded<CudaFP8> rounded(bench.device(), {w}, 32);
  const auto product = [&](double std) {
    const Matrix<BFloat16> y = bench.poisoned_scalars(32, 96);
    multiply<CudaFP8, Unactivated>(bench.device(), bench.scalars("x", 32, 64, std), w, false, y);
    const auto result = bench.download(y.data, y.size());
    return std::vector<double>(result.begin(), result.end());
  };
  const auto first = product(1);
  for (const double std : {1e4, 1.0, 0.0, 1.0, 1e-5, 1.0, double{NAN}, 1.0}) {
    const auto again = product(std);
    if (std == 1) BOOST_TEST(again == first, boost::test_tools::per_element());
    if (std == 0) BOOST_TEST(distance(again, std::vector<double>(again.size())) == 0);
    if (std::isnan(std))
      BOOST_TEST(std::all_of(again.begin(), again.end(), [](double x) { return std::isnan(x); }));
  }
  // A new version of the weight, and the old one again.
  const Matrix<BFloat16> other = bench.scalars("other", 64, 96, 50);
  const auto kept = bench.download(w.data, w.size());
  copy_to_device(bench.device(), w.data, bench.download(other.data, other.size()).data(), kept.size() * 2);
  BOOST_TEST(product(1) == first, boost::test_tools::per_element());  // nobody has said so
  rounded.update(bench.device(), 2);
  BOOST_TEST(distance(product(1), first) > 1);
  copy_to_device(bench.device(), w.data, kept.data(), kept.size() * 2);
  rounded.update(bench.device(), 3);
  BOOST_TEST(product(1) == first, boost::test_tools::per_element());
}

// An activation that knows of the product to come rounds its factor: to the same bits, whether the scale of
// the time before was the right one, and whatever comes in between.
BOOST_AUTO_TEST_CASE(factors_are_rounded_where_they_are_made, *needs_fp8) {
  LNFREE_LOG_SEED();
  Workbench<CudaFP8> bench(seed());
  CudaFP8& device = bench.device();
  const Matrix<const BFloat16> w = bench.scalars("w", 64, 96), other = bench.scalars("other", 64, 96);
  const Rounded<CudaFP8> rounded(device, {w, other}, 32);
  const Matrix<const BFloat16> slope = bench.scalars("slope", 1, 1);
  const auto product = [&](double std, bool backwards, bool learnable, bool expected, auto between) {
    const Index k = backwards ? 96 : 64, n = backwards ? 64 : 96;
    const Matrix<const BFloat16> x = bench.scalars("x", 32, k, std);
    const Matrix<BFloat16> d = bench.scalars("d", 32, k, std), y = bench.poisoned_scalars(32, n);
    const Matrix<BFloat16> made = backwards ? d : bench.poisoned_scalars(32, k);
    auto d_slope = bench.accumulators("d_slope", 1, 1);
    if (expected) expect_product(device, made, w);
    const auto make = [&]<class A>(A activation) {
      if (backwards) {
        activation_backward(device, activation, x, slope.data, d, d_slope.data);
      } else {
        activation_forward(device, activation, x, slope.data, made);
      }
    };
    if (learnable) {
      make(LeakyLearnable<Scope::global>());
    } else {
      make(GELU());
    }
    between(made);
    multiply<CudaFP8, Unactivated>(device, made, w, backwards, y);
    auto result = bench.download(y.data, y.size());
    std::vector<double> numbers(result.begin(), result.end());
    numbers.push_back(bench.download(d_slope.data, 1)[0]);
    return numbers;
  };
  const auto nothing = [](auto) {};
  // A product of other numbers comes out the same twice.
  const auto multiply_twice = [&](Matrix<const BFloat16> by, Matrix<const BFloat16> made) {
    const bool backwards = made.cols != 64;
    const Matrix<const BFloat16> x = bench.scalars("small", 32, made.cols, 1e-3);
    const auto once = [&] {
      const Matrix<BFloat16> y = bench.poisoned_scalars(32, backwards ? 64 : 96);
      multiply<CudaFP8, Unactivated>(device, x, by, backwards, y);
      const auto numbers = bench.download(y.data, y.size());
      return std::vector<double>(numbers.begin(), numbers.end());
    };
    const auto first = once(), second = once();
    BOOST_TEST(first == second, boost::test_tools::per_element());
  };
  const auto another_product = [&](Matrix<const BFloat16> made) { multiply_twice(other, made); };
  const auto expects_another = [&](Matrix<const BFloat16> made) {
    expect_product(device, made, other);
    multiply_twice(w, made);
  };
  for (const bool backwards : {false, true}) {
    for (const bool learnable : {false, true}) {
      const auto plain = product(1, backwards, learnable, false, nothing);
      for (const double std : {1.0, 1e3, 1.0, 1e-3, 1.0}) {
        const auto made = product(std, backwards, learnable, true, nothing);
        if (std == 1) BOOST_TEST(made == plain, boost::test_tools::per_element());
      }
      BOOST_TEST(product(1, backwards, learnable, true, another_product) == plain,
                 boost::test_tools::per_element());
      BOOST_TEST(product(1, backwards, learnable, true, expects_another) == plain,
                 boost::test_tools::per_element());
    }
  }
}

// What is infinite or not a number does not become a large number.
BOOST_AUTO_TEST_CASE(hide_nothing, *needs_fp8) {
  for (const double bad : {double{NAN}, -double{INFINITY}}) {
    Workbench<CudaFP8> bench(seed());
    const Matrix<BFloat16> w = bench.scalars("w", 32, 32);
    const Rounded<CudaFP8> rounded(bench.device(), {w}, 16);
    std::vector<double> values(16 * 32, 1);
    values[100] = bad;
    const Matrix<BFloat16> y = bench.poisoned_scalars(16, 32);
    for (int time = 0; time < 2; ++time) {
      multiply<CudaFP8, Unactivated>(bench.device(), bench.scalars(values, 16, 32), w, false, y);
      for (const auto value : bench.download(y.data, y.size()))
        BOOST_TEST(std::isnan(static_cast<float>(value)));
    }
  }
}

BOOST_AUTO_TEST_SUITE_END()
