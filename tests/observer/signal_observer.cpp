#include <lnfree/observer/signal_observer.hpp>

#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <lnfree/core/concepts.hpp>
#include <lnfree/core/random.hpp>

#include "support/seed.hpp"

using namespace lnfree;

namespace {

/// A stream (batch * length, cols) whose element (i, j) is f(i, j), with some unused columns.
template <class T = double, class F>
std::vector<T> stream(BatchShape shape, Index cols, const F& f) {
  std::vector<T> values;
  for (Index i = 0; i < shape.rows(); ++i) {
    for (Index j = 0; j < cols; ++j) values.push_back(static_cast<T>(f(i, j)));
  }
  return values;
}

template <class T>
void record(SignalObserver& observer, int layer, BatchShape shape, Index cols, const std::vector<T>& values) {
  observer.record_stream(layer, shape, Matrix<const T>(values.data(), shape.rows(), cols));
}

const auto exactly = boost::test_tools::tolerance(1e-9);

}  // namespace

BOOST_AUTO_TEST_SUITE(signal_observer)

BOOST_AUTO_TEST_CASE(nothing_seen_is_no_number) {
  static_assert(Observer<SignalObserver>);
  SignalObserver observer(2, 1);
  const BatchShape one{3, 1};  // without pairs
  record(observer, 1, one, 2, stream(one, 2, [](Index i, Index j) { return 1.0 + double(i * j); }));
  BOOST_TEST(std::isnan(observer.cosine()[0]));
  BOOST_TEST(std::isnan(observer.effective_rank()[0]));
  BOOST_TEST(std::isnan(observer.cosine()[1]));
  BOOST_TEST(observer.effective_rank()[1] > 1);
}

// All tokens are alike: the stream has collapsed. In float and double, however large.
BOOST_AUTO_TEST_CASE(identical_rows_have_one_direction) {
  const BatchShape shape{2, 5};
  for (const double size : {1.0, 1e-18, 1e18}) {
    SignalObserver observer(1, 1);
    record(observer, 0, shape, 4,
           stream<float>(shape, 4, [=](Index, Index j) { return size * double(j - 1); }));
    BOOST_TEST(observer.cosine()[0] == 1.0, exactly);
    BOOST_TEST(observer.effective_rank()[0] == 1.0, exactly);
  }
}

// Rows of other lengths have the same direction; rows of different sequences do not form pairs.
BOOST_AUTO_TEST_CASE(cosines_are_of_directions_within_a_sequence) {
  const BatchShape shape{2, 3};
  SignalObserver observer(1, 1);
  record(observer, 0, shape, 2, stream(shape, 2, [](Index i, Index j) {
           return (i < 3) == (j == 0) ? 1.0 + double(i)
                                      : 0.0;  // the first sequence along one axis, the other along the other
         }));
  BOOST_TEST(observer.cosine()[0] == 1.0, exactly);
  const double a = (1 + 4 + 9) / 91.0, b = (16 + 25 + 36) / 91.0;
  BOOST_TEST(observer.effective_rank()[0] == std::exp(-a * std::log(a) - b * std::log(b)), exactly);
}

BOOST_AUTO_TEST_CASE(orthogonal_rows_have_as_many_directions) {
  const BatchShape shape{1, 6};
  SignalObserver observer(1, 1);
  record(observer, 0, shape, 8, stream(shape, 8, [](Index i, Index j) { return i == j ? -3.0 : 0.0; }));
  BOOST_TEST(std::abs(observer.cosine()[0]) < 1e-12);
  BOOST_TEST(observer.effective_rank()[0] == 6.0, exactly);
  // A second pass with the other two directions.
  record(observer, 0, {1, 2}, 8, stream({1, 2}, 8, [](Index i, Index j) { return i + 6 == j ? 3.0 : 0.0; }));
  BOOST_TEST(observer.effective_rank()[0] == 8.0, exactly);
  // Opposite ones: every pair of the 2 rows has the cosine -1, beside 15 pairs and 1 of 0.
  record(observer, 0, {1, 2}, 8,
         stream({1, 2}, 8, [](Index i, Index j) { return j == 0 ? 1.0 - 2.0 * double(i) : 0.0; }));
  BOOST_TEST(observer.cosine()[0] == -1.0 / 17, exactly);
  observer.reset();
  BOOST_TEST(std::isnan(observer.cosine()[0]));
  BOOST_TEST(std::isnan(observer.effective_rank()[0]));
}

// Against the plain formula, on random rows with a common part.
BOOST_AUTO_TEST_CASE(random_rows) {
  LNFREE_LOG_SEED();
  const BatchShape shape{3, 17};
  constexpr Index cols = 24;
  std::vector<float> values(static_cast<std::size_t>(shape.rows() * cols));
  fill_normal(values.data(), shape.rows() * cols, 1, Philox(test::seed(), stream_of("stream")));
  for (float& value : values) value += 0.5f;
  double cosines = 0;
  Index pairs = 0;
  const auto dot = [&](Index i, Index j) {
    double sum = 0;
    for (Index c = 0; c < cols; ++c) sum += double(values[i * cols + c]) * double(values[j * cols + c]);
    return sum;
  };
  for (Index i = 0; i < shape.rows(); ++i) {
    for (Index j = 0; j < shape.rows(); ++j) {
      if (i == j || i / 17 != j / 17) continue;
      cosines += dot(i, j) / std::sqrt(dot(i, i) * dot(j, j));
      ++pairs;
    }
  }
  SignalObserver observer(3, 1);
  record(observer, 2, shape, cols, values);
  BOOST_TEST(observer.cosine()[2] == cosines / static_cast<double>(pairs), exactly);
  BOOST_TEST(observer.cosine()[2] > 0.05);
  BOOST_TEST(observer.effective_rank()[2] > 10);
  BOOST_TEST(observer.effective_rank()[2] < 24);
  BOOST_TEST(std::isnan(observer.cosine()[0]));
}

BOOST_AUTO_TEST_CASE(rows_without_a_direction_are_left_out) {
  const BatchShape shape{1, 4};
  for (const double bad : {0.0, double(NAN), std::numeric_limits<double>::infinity()}) {
    SignalObserver observer(1, 1);
    record(observer, 0, shape, 3,
           stream<float>(shape, 3, [=](Index i, Index) { return i == 1 ? bad : 2.0; }));
    BOOST_TEST(observer.cosine()[0] == 1.0, exactly);
    BOOST_TEST(observer.effective_rank()[0] == 1.0, exactly);
  }
}

BOOST_AUTO_TEST_CASE(the_report_has_both) {
  const BatchShape shape{1, 2};
  SignalObserver observer(1, 1);
  record(observer, 0, shape, 2, stream(shape, 2, [](Index i, Index j) { return i == j ? 1.0 : 0.0; }));
  std::vector<std::string> names;
  observer.report([&](const std::string& name, const std::vector<double>& numbers) {
    names.push_back(name);
    BOOST_TEST(numbers.size() == 1u);
    BOOST_TEST(numbers[0] == (name == "cosine" ? 0.0 : 2.0), exactly);
  });
  BOOST_TEST((names == std::vector<std::string>{"cosine", "effective_rank"}));
}

BOOST_AUTO_TEST_SUITE_END()
