#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <tuple>
#include <vector>

#include <lnfree/activation/relu.hpp>

#include "device/rounded_weights.hpp"
#include "device/workbench.hpp"
#include "support/eight_bits.hpp"

using namespace lnfree;
using namespace lnfree::test;

namespace {

/// A factor of rows that are multiplied with each other: integers and a scale for each row.
struct IntegerFactor {
  Index rows, depth;
  std::vector<int> numbers;   // (rows, depth)
  std::vector<float> scales;  // (rows)
};

/// Rounds a matrix of `rows` rows, each of which is a row of the factor. number(i, k) is its element.
template <class Number>
IntegerFactor rounded_factor(Index rows, Index depth, const Number& number) {
  IntegerFactor factor{rows, depth, {}, {}};
  for (Index i = 0; i < rows; ++i) {
    float max = 0;
    bool finite = true;
    for (Index k = 0; k < depth; ++k) {
      const float x = number(i, k);
      finite = finite && std::isfinite(x);
      max = std::max(max, std::abs(x));
    }
    const float scale = std::max(max / 127, std::numeric_limits<float>::min()), inverse = 1 / scale;
    factor.scales.push_back(finite ? scale : NAN);
    for (Index k = 0; k < depth; ++k) {
      // The product in double is exact.
      const double exact = double{inverse} * static_cast<double>(number(i, k));
      factor.numbers.push_back(finite ? static_cast<int>(std::nearbyint(exact)) : 0);
    }
  }
  return factor;
}

/// What a product stores besides the sums.
struct Rest {
  std::vector<BFloat16> addend, bias;  // (rows, cols) and (cols), or nothing
  bool relu = false;
};

/// C = A B^T in exact integers, rounded once.
std::vector<BFloat16> product_of(const IntegerFactor& a, const IntegerFactor& b, const Rest& rest = {}) {
  std::vector<BFloat16> c;
  for (Index i = 0; i < a.rows; ++i) {
    for (Index j = 0; j < b.rows; ++j) {
      std::int64_t sum = 0;
      for (Index k = 0; k < a.depth; ++k) {
        sum += std::int64_t{a.numbers[static_cast<std::size_t>(i * a.depth + k)]} *
               b.numbers[static_cast<std::size_t>(j * b.depth + k)];
      }
      const auto at = static_cast<std::size_t>(i * b.rows + j), col = static_cast<std::size_t>(j);
      const float addend = rest.addend.empty() ? 0 : static_cast<float>(rest.addend[at]);
      float value =
          std::fma(static_cast<float>(sum) * a.scales[static_cast<std::size_t>(i)], b.scales[col], addend);
      value += rest.bias.empty() ? 0 : static_cast<float>(rest.bias[col]);
      if (rest.relu && value < 0) value = 0;
      c.emplace_back(value);
    }
  }
  return c;
}

/// Whether a (rows, cols) result with gaps of `stride` - cols between its rows has these bits, and its gaps
/// are still NaN.
void check_bits(const std::vector<BFloat16>& result, Index stride, const std::vector<BFloat16>& expected,
                Index cols, const std::string& label) {
  Index wrong = 0, overwritten = 0;
  for (Index at = 0; at < static_cast<Index>(result.size()); ++at) {
    const BFloat16 ours = result[static_cast<std::size_t>(at)];
    const Index i = at / stride, j = at % stride;
    if (j >= cols) {
      overwritten += !std::isnan(static_cast<float>(ours));
      continue;
    }
    const BFloat16 theirs = expected[static_cast<std::size_t>(i * cols + j)];
    const bool both_nan = std::isnan(static_cast<float>(ours)) && std::isnan(static_cast<float>(theirs));
    wrong += !both_nan && std::bit_cast<std::uint16_t>(ours) != std::bit_cast<std::uint16_t>(theirs);
  }
  BOOST_TEST(wrong == 0, label << ": " << wrong << " of " << expected.size() << " numbers are wrong");
  BOOST_TEST(overwritten == 0, label << ": " << overwritten << " numbers beyond the rows are overwritten");
}

/// Random integers of the whole range, or the largest ones, in memory with gaps between the rows.
struct StoredIntegers {
  IntegerFactor factor;
  Matrix<const std::int8_t> matrix;
  const float* scales;
};
StoredIntegers integers(Workbench<CudaInt8>& bench, const std::string& name, Index rows, Index depth,
                        bool largest) {
  const Index stride = depth + 16;
  std::vector<std::int8_t> host(static_cast<std::size_t>(rows * stride), 99);
  StoredIntegers stored;
  stored.factor.rows = rows;
  stored.factor.depth = depth;
  const Philox random(seed(), stream_of(name));
  for (Index i = 0; i < rows; ++i) {
    const auto row = static_cast<std::uint64_t>(i);
    stored.factor.scales.push_back(static_cast<float>(1 + random(row)[3] % 1000) * 1e-5f);
    for (Index k = 0; k < depth; ++k) {
      const auto drawn = random(static_cast<std::uint64_t>(i * depth + k))[0];
      const auto number = static_cast<std::int8_t>(largest ? 127 : static_cast<int>(drawn % 256) - 128);
      host[static_cast<std::size_t>(i * stride + k)] = number;
      stored.factor.numbers.push_back(number);
    }
  }
  auto* const numbers = bench.raw<std::int8_t>(rows * stride);
  copy_to_device(bench.device(), numbers, host.data(), host.size());
  auto* const scales = bench.raw<float>(rows);
  copy_to_device(bench.device(), scales, stored.factor.scales.data(), stored.factor.scales.size() * 4);
  stored.matrix = {numbers, rows, depth, stride};
  stored.scales = scales;
  return stored;
}

IntegerFactor rows_of(Workbench<CudaInt8>& bench, Matrix<const BFloat16> m) {
  const auto numbers = bench.download(m.data, m.rows * m.stride);
  return rounded_factor(m.rows, m.cols, [&](Index i, Index k) {
    return static_cast<float>(numbers[static_cast<std::size_t>(i * m.stride + k)]);
  });
}
IntegerFactor columns_of(Workbench<CudaInt8>& bench, Matrix<const BFloat16> m) {
  const auto numbers = bench.download(m.data, m.rows * m.stride);
  return rounded_factor(m.cols, m.rows, [&](Index j, Index k) {
    return static_cast<float>(numbers[static_cast<std::size_t>(k * m.stride + j)]);
  });
}
/// The factor's rows, or its summed numbers, that belong to some columns of a weight.
IntegerFactor part_of(const IntegerFactor& whole, bool of_depth, Index first, Index count) {
  IntegerFactor part{of_depth ? whole.rows : count, of_depth ? count : whole.depth, {}, {}};
  for (Index i = 0; i < part.rows; ++i) {
    const Index row = of_depth ? i : first + i;
    part.scales.push_back(whole.scales[static_cast<std::size_t>(row)]);
    for (Index k = 0; k < part.depth; ++k)
      part.numbers.push_back(
          whole.numbers[static_cast<std::size_t>(row * whole.depth + k + (of_depth ? first : 0))]);
  }
  return part;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(device_int8)

// Sizes of parts of a tile, of whole tiles and of several, with fewer slices than stages and with more.
BOOST_AUTO_TEST_CASE(integer_products_are_exact, *needs_int8) {
  LNFREE_LOG_SEED();
  for (const auto& [m, n, k, largest] : {std::tuple<Index, Index, Index, bool>{16, 16, 16, false},
                                         {144, 272, 208, false},
                                         {128, 128, 64, false},
                                         {112, 48, 1040, false},
                                         {16, 32, 2080, true}}) {
    Workbench<CudaInt8> bench(seed());
    const StoredIntegers a = integers(bench, "a", m, k, largest), b = integers(bench, "b", n, k, largest);
    const Matrix<const BFloat16> bias = bench.scalars("bias", 1, n, 0.1);
    const auto biases = bench.download(bias.data, n);
    for (const Added added : {Added::nothing, Added::itself, Added::another}) {
      const std::string label = sizes(m, n, k) + name(added);
      const bool with_rest = added != Added::itself;
      const Matrix<BFloat16> before = bench.scalars("c", m, n, 1, n + 8);
      const Output<BFloat16> c = added == Added::nothing ? bench.poisoned_scalars(m, n, n + 8)
                                 : added == Added::itself
                                     ? accumulate(before)
                                     : Output<BFloat16>(bench.poisoned_scalars(m, n), before);
      Rest rest;
      if (c.adds()) {
        const auto numbers = bench.download(before.data, m * before.stride);
        for (Index at = 0; at < m * n; ++at)
          rest.addend.push_back(numbers[static_cast<std::size_t>(at / n * before.stride + at % n)]);
      }
      if (with_rest) rest.bias = biases;
      rest.relu = with_rest;
      cuda::multiply<std::int8_t>(bench.device().stream(), {a.matrix, b.matrix, a.scales, b.scales, c,
                                                            with_rest ? bias.data : nullptr, with_rest});
      check_bits(bench.download(c.matrix.data, m * c.matrix.stride), c.matrix.stride,
                 product_of(a.factor, b.factor, rest), n, label);
    }
  }
}

BOOST_AUTO_TEST_CASE(the_same_kernel_multiplies_bf16, *needs_int8) {
  LNFREE_LOG_SEED();
  for (const auto& [m, n, k] : {std::tuple<Index, Index, Index>{16, 16, 8}, {144, 272, 104}, {48, 32, 520}}) {
    Workbench<CudaInt8> bench(seed());
    const Matrix<const BFloat16> a = bench.scalars("a", m, k, 1, k + 8),
                                 b = bench.scalars("b", n, k, 1, k + 8);
    const Matrix<const BFloat16> bias = bench.scalars("bias", 1, n);
    const Matrix<const BFloat16> addend = bench.scalars("addend", m, n);
    const Matrix<BFloat16> c = bench.poisoned_scalars(m, n, n + 8);
    cuda::multiply<BFloat16>(bench.device().stream(), {a, b, nullptr, nullptr, {c, addend}, bias.data, true});
    const auto left = bench.download(a.data, m * a.stride), right = bench.download(b.data, n * b.stride);
    const auto added = bench.download(addend.data, m * n), biases = bench.download(bias.data, n);
    const auto result = bench.download(c.data, m * c.stride);
    double worst = 0;
    for (Index i = 0; i < m; ++i) {
      for (Index j = 0; j < n; ++j) {
        const auto number = [](const std::vector<BFloat16>& of, Index at) {
          return static_cast<double>(of[static_cast<std::size_t>(at)]);
        };
        double sum = number(added, i * n + j) + number(biases, j), size = std::abs(sum);
        for (Index p = 0; p < k; ++p) {
          const double term = number(left, i * a.stride + p) * number(right, j * b.stride + p);
          sum += term;
          size += std::abs(term);
        }
        sum = std::max(sum, 0.0);
        const double bound = 0x1p-8 * sum + static_cast<double>(k) * 0x1p-24 * size;
        const double error = std::abs(number(result, i * c.stride + j) - sum);
        worst = std::isnan(error) ? INFINITY : std::max(worst, error / bound);
      }
    }
    BOOST_TEST(worst <= 1, sizes(m, n, k) << ": off by " << worst << " of what rounding allows");
  }
}

BOOST_AUTO_TEST_CASE(products_are_those_of_rounded_factors_to_the_bit, *needs_int8) {
  LNFREE_LOG_SEED();
  for (const auto& [m, n, k] : {std::tuple<Index, Index, Index>{32, 80, 144}, {16, 16, 16}, {160, 208, 64}}) {
    for (const bool backwards : {false, true}) {
      for (const double std : {1.0, 1e-7, 3e4}) {
        Workbench<CudaInt8> bench(seed());
        const Matrix<const BFloat16> x = bench.scalars("x", m, k, std, k + 8);
        const Matrix<const BFloat16> w =
            backwards ? bench.scalars("w", n, k, 0.02) : bench.scalars("w", k, n, 0.02);
        const Matrix<const BFloat16> bias = bench.scalars("bias", 1, n, std);
        const Rounded<CudaInt8> rounded(bench.device(), {w}, m);
        const Matrix<BFloat16> y = bench.poisoned_scalars(m, n, n + 8), z = bench.scalars("y", m, n, std);
        const Rest rest{bench.download(z.data, z.size()), bench.download(bias.data, n), true};
        multiply<CudaInt8, Unactivated>(bench.device(), x, w, backwards, y);
        multiply<CudaInt8, ReLU>(bench.device(), x, w, backwards, accumulate(z), {bias.data});
        const IntegerFactor a = rows_of(bench, x), b = backwards ? rows_of(bench, w) : columns_of(bench, w);
        const std::string label = sizes(m, n, k) + (backwards ? ", backwards" : "");
        check_bits(bench.download(y.data, m * y.stride), y.stride, product_of(a, b), n, label);
        check_bits(bench.download(z.data, m * n), n, product_of(a, b, rest), n, label + ", with the rest");
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(integer_products_with_some_columns_of_a_weight, *needs_int8) {
  LNFREE_LOG_SEED();
  Workbench<CudaInt8> bench(seed());
  const Matrix<const BFloat16> whole = bench.scalars("w", 64, 96), w = whole.columns(32, 48);
  const Rounded<CudaInt8> rounded(bench.device(), {whole}, 32);
  for (const bool backwards : {false, true}) {
    const Matrix<const BFloat16> x = bench.scalars("x", 32, backwards ? 48 : 64);
    const Matrix<BFloat16> y = bench.poisoned_scalars(32, backwards ? 64 : 48);
    multiply<CudaInt8, Unactivated>(bench.device(), x, w, backwards, y);
    const IntegerFactor b =
        part_of(backwards ? rows_of(bench, whole) : columns_of(bench, whole), backwards, 32, 48);
    check_bits(bench.download(y.data, y.size()), y.cols, product_of(rows_of(bench, x), b), y.cols,
               backwards ? "backwards" : "forwards");
  }
}

// With a largest magnitude of 127 the scale is 1.
BOOST_AUTO_TEST_CASE(ties_go_to_even_integers, *needs_int8) {
  std::vector<double> numbers(16 * 16), one(16 * 16);
  const std::vector<double> row = {127, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 1.25, 1.75, -126.5, 125.5, -127};
  const std::vector<double> nearest = {127, 0, 2, 2, 0, -2, -2, 1, 2, -126, 126, -127};
  std::copy(row.begin(), row.end(), numbers.begin());
  for (std::size_t i = 0; i < 16; ++i) one[17 * i] = 127;
  for (const bool backwards : {false, true}) {
    Workbench<CudaInt8> bench(seed());
    const Matrix<BFloat16> w = bench.scalars(one, 16, 16), y = bench.poisoned_scalars(16, 16);
    const Rounded<CudaInt8> rounded(bench.device(), {w}, 16);
    multiply<CudaInt8, Unactivated>(bench.device(), bench.scalars(numbers, 16, 16), w, backwards, y);
    const auto result = bench.download(y.data, y.size());
    for (std::size_t j = 0; j < nearest.size(); ++j)
      BOOST_TEST(static_cast<float>(result[j]) ==
                 static_cast<float>(BFloat16(static_cast<float>(127 * nearest[j]))));
  }
}

// A row or column of zeros gives zeros. A number that is not finite makes its row or column of the result
// NaN. Other rows and columns keep their values.
BOOST_AUTO_TEST_CASE(rows_and_columns_do_not_disturb_each_other, *needs_int8) {
  LNFREE_LOG_SEED();
  constexpr Index m = 32, n = 48, k = 64;
  for (const double bad : {double{NAN}, -double{INFINITY}, 0.0, 1e-40}) {
    Workbench<CudaInt8> bench(seed());
    const auto with_a_bad = [&](const char* name, Index rows, Index cols, bool row) {
      const Matrix<BFloat16> m = bench.scalars(name, rows, cols);
      auto numbers = bench.download(m.data, m.size());
      for (Index i = 0; i < (row ? cols : rows); ++i) {
        // The whole line is zero or tiny, or has a single number that is not finite.
        if (std::isfinite(bad) || i == 5)
          numbers[static_cast<std::size_t>(row ? 3 * cols + i : i * cols + 3)] =
              BFloat16(static_cast<float>(bad));
      }
      copy_to_device(bench.device(), m.data, numbers.data(), numbers.size() * 2);
      return m;
    };
    const Matrix<const BFloat16> x = with_a_bad("x", m, k, true), w = with_a_bad("w", k, n, false);
    const Rounded<CudaInt8> rounded(bench.device(), {w}, m);
    const Matrix<BFloat16> y = bench.poisoned_scalars(m, n);
    multiply<CudaInt8, Unactivated>(bench.device(), x, w, false, y);
    const auto result = bench.download(y.data, y.size());
    check_bits(result, n, product_of(rows_of(bench, x), columns_of(bench, w)), n, std::to_string(bad));
    for (Index at = 0; at < m * n; ++at) {
      const float value = static_cast<float>(result[static_cast<std::size_t>(at)]);
      const bool is_bad = at / n == 3 || at % n == 3;
      BOOST_TEST(std::isnan(value) == (is_bad && !std::isfinite(bad)));
      if (is_bad && bad == 0) BOOST_TEST(value == 0);
    }
    // ReLU hides nothing.
    multiply<CudaInt8, ReLU>(bench.device(), x, w, false, y);
    if (!std::isfinite(bad)) BOOST_TEST(std::isnan(static_cast<float>(bench.download(y.row(3), 1)[0])));
  }
}

BOOST_AUTO_TEST_CASE(a_new_version_of_a_weight, *needs_int8) {
  LNFREE_LOG_SEED();
  Workbench<CudaInt8> bench(seed());
  const Matrix<BFloat16> w = bench.scalars("w", 64, 96), other = bench.scalars("other", 64, 96, 50);
  const Matrix<const BFloat16> x = bench.scalars("x", 32, 64);
  const auto before = columns_of(bench, w), after = columns_of(bench, other);
  Rounded<CudaInt8> rounded(bench.device(), {w}, 32);
  const auto check = [&](const IntegerFactor& b, const char* label) {
    const Matrix<BFloat16> y = bench.poisoned_scalars(32, 96);
    multiply<CudaInt8, Unactivated>(bench.device(), x, w, false, y);
    check_bits(bench.download(y.data, y.size()), 96, product_of(rows_of(bench, x), b), 96, label);
  };
  check(before, "first");
  copy_to_device(bench.device(), w.data, bench.download(other.data, other.size()).data(), 64 * 96 * 2);
  check(before, "nobody has said so");
  rounded.update(bench.device(), 1);
  check(before, "the same version");
  rounded.update(bench.device(), 2);
  check(after, "the next version");
}

BOOST_AUTO_TEST_SUITE_END()
