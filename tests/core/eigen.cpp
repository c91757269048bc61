#include <lnfree/core/eigen.hpp>

#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <lnfree/core/error.hpp>
#include <lnfree/observer/entropy_observer.hpp>

using namespace lnfree;

namespace {

template <class T>
using RowMajor = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// 4 x 6 numbers, row by row.
std::vector<double> counted() {
  std::vector<double> numbers(24);
  for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<double>(i);
  return numbers;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(eigen_views)

BOOST_AUTO_TEST_CASE(eigen_sees_a_part_of_a_matrix) {
  std::vector<double> numbers = counted();
  const Matrix<double> part = Matrix<double>(numbers.data(), 4, 6).slice(1, 2).columns(2, 3);
  auto view = as_eigen(part);
  BOOST_TEST(view.rows() == 2);
  BOOST_TEST(view.cols() == 3);
  BOOST_TEST(view(0, 0) == 8);
  BOOST_TEST(view(1, 2) == 16);
  view(1, 2) = -1;  // the memory itself, not a copy
  BOOST_TEST(numbers[16] == -1);
  view.setZero();
  BOOST_TEST(numbers[11] == 11);
  BOOST_TEST(numbers[17] == 17);
}

BOOST_AUTO_TEST_CASE(what_is_read_is_not_written) {
  const std::vector<double> numbers = counted();
  const auto view = as_eigen(Matrix<const double>(numbers.data(), 4, 6));
  BOOST_TEST(view.sum() == 23 * 24 / 2);
  static_assert(std::is_same_v<decltype(as_matrix(view)), Matrix<const double>>);
  BOOST_TEST(as_matrix(view).data == numbers.data());
}

BOOST_AUTO_TEST_CASE(lnfree_sees_eigen_s_matrices) {
  RowMajor<float> matrix(4, 6);
  for (Eigen::Index i = 0; i < 24; ++i) matrix.data()[i] = static_cast<float>(i);
  const Matrix<float> whole = as_matrix(matrix);
  BOOST_TEST(whole.data == matrix.data());
  BOOST_TEST(whole.rows == 4);
  BOOST_TEST(whole.cols == 6);
  BOOST_TEST(whole.stride == 6);
  const Matrix<float> block = as_matrix(matrix.block(1, 2, 2, 3));
  BOOST_TEST(block.row(1)[2] == 16);
  BOOST_TEST(block.cols == 3);
  BOOST_TEST(block.stride == 6);
  const RowMajor<float>& unchanging = matrix;
  static_assert(std::is_same_v<decltype(as_matrix(unchanging)), Matrix<const float>>);
  BOOST_TEST(as_eigen(block).data() == block.data);
}

// Observers' results by layer, and by layer and head.
BOOST_AUTO_TEST_CASE(results_of_observers_are_arrays) {
  const std::vector<double> by_layer{1, 2, 4};
  BOOST_TEST(as_eigen(by_layer).data() == by_layer.data());
  BOOST_TEST(as_eigen(by_layer).sum() == 7);
  EntropyObserver observer(2, 3);
  const std::vector<float> sums{1, 2, 3, 4, 5, 6};
  const std::vector<std::int32_t> rows{1, 1, 1, 2, 2, 2};
  observer.record({1, 2}, sums.data(), rows.data());
  const auto entropy = to_eigen(observer.head_entropy());
  BOOST_TEST(entropy.rows() == 2);
  BOOST_TEST(entropy.cols() == 3);
  BOOST_TEST(entropy(0, 2) == 3);
  BOOST_TEST(entropy(1, 0) == 2);
  BOOST_TEST(entropy.rowwise().mean()(1) == 2.5);
  BOOST_TEST(to_eigen(std::vector<std::vector<double>>{}).size() == 0);
  BOOST_CHECK_EXCEPTION(
      to_eigen(std::vector<std::vector<double>>{{1, 2}, {3}}), Error, [](const Error& error) {
        return std::string(error.what()) == "a table with 2 columns in row 0 and 1 in row 1 is not an array";
      });
}

BOOST_AUTO_TEST_SUITE_END()
