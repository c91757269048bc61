#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <tuple>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <lnfree/model.hpp>

#include "support/device.hpp"
#include "support/random_batch.hpp"

using namespace lnfree;
using lnfree::test::RandomBatch;
using lnfree::test::TestDevice;

namespace {

#ifdef LNFREE_TEST_CUDA
using TextDevices = std::tuple<TestDevice>;
#else
using TextDevices = std::tuple<TestDevice, Reference<double>>;
#endif
using Tokens = std::vector<std::int32_t>;

/// More than a tile of queries on every device.
constexpr DecoderConfig long_context{
    .layers = 3, .heads = 2, .width = 20, .ffn_width = 24, .context = 101, .vocab_size = 37};
constexpr DecoderConfig rotary = [] {
  DecoderConfig shape = long_context;
  shape.rotary_dims = 6;
  shape.parallel_residual = true;
  shape.biases = Biases::all;
  shape.tied_output = false;
  return shape;
}();

/// The same weights in a model with a cache of keys and values, and in one that reads all tokens each time.
template <class Model>
struct Pair {
  Pair() : keeps(1, Purpose::generation), whole(1, Purpose::evaluation) {
    keeps.initialize(5, 0.3);
    whole.initialize(5, 0.3);
  }

  /// The largest difference between the two models' logits after `tokens`.
  double difference(std::span<const std::int32_t> tokens) { return difference(tokens, tokens); }
  double difference(std::span<const std::int32_t> tokens, std::span<const std::int32_t> of_whole) {
    const std::vector<double> a = keeps.next_logits(tokens), b = whole.next_logits(of_whole);
    BOOST_REQUIRE(a.size() == b.size());
    double largest = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
      BOOST_REQUIRE(std::isfinite(a[i]));
      largest = std::max(largest, std::abs(a[i] - b[i]));
    }
    return largest;
  }

  Model keeps, whole;
};

template <class D>
constexpr double tolerance = std::is_same_v<typename D::Accumulator, double> ? 1e-12 : 1e-4;

Tokens random_tokens(int count) {
  return RandomBatch({1, count}, 37, 11).tokens;
}

template <class D, DecoderConfig shape, class Norm, class Activation, class Layout = AsConfigured>
void check_growing_text() {
  Pair<Decoder<shape, Norm, Activation, D, NoObserver, Layout>> pair;
  const Tokens text = random_tokens(101);
  // One token at a time and several; a whole tile; up to the context.
  for (const int count : {1, 2, 3, 10, 11, 16, 31, 32, 33, 34, 64, 65, 90, 99, 100, 101}) {
    BOOST_TEST(pair.difference(std::span(text).first(static_cast<std::size_t>(count))) < tolerance<D>,
               count << " tokens");
  }
}

}  // namespace

BOOST_AUTO_TEST_SUITE(generation_with_kept_keys_and_values)

BOOST_AUTO_TEST_CASE_TEMPLATE(a_growing_text_gives_the_logits_of_whole_passes, D, TextDevices) {
  check_growing_text<D, long_context, LayerNorm, GELU>();
  check_growing_text<D, rotary, Identity, ReLU>();
#ifndef LNFREE_TEST_CUDA
  check_growing_text<D, long_context, RMSNorm, LeakyLearnable<Scope::per_layer>, Sandwich>();
  check_growing_text<D, rotary, DynamicTanh, Layerwise<ReLU, 1, GELU>, PostNorm>();
#endif
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_text_may_change_anywhere, D, TextDevices) {
  Pair<Decoder<rotary, LayerNorm, ReLU, D>> pair;
  Tokens text = random_tokens(60);
  BOOST_TEST(pair.difference(text) < tolerance<D>);
  BOOST_TEST(pair.difference(text) < tolerance<D>);  // the same once more: the last token is computed again
  for (const std::size_t at : {59, 40, 0}) {
    text[at] = (text[at] + 1) % 37;
    BOOST_TEST(pair.difference(text) < tolerance<D>, "changed at " << at);
  }
  BOOST_TEST(pair.difference(std::span(text).first(20)) < tolerance<D>);
  BOOST_TEST(pair.difference(random_tokens(5)) < tolerance<D>);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(half_a_context_is_dropped_at_a_time, D, TextDevices) {
  Pair<Decoder<long_context, LayerNorm, GELU, D>> pair;
  const Tokens text = random_tokens(260);
  for (const auto& [count, begin] :
       {std::pair{101, 0}, {102, 50}, {103, 50}, {151, 50}, {152, 100}, {260, 200}}) {
    const auto whole = std::span(text).first(static_cast<std::size_t>(count));
    BOOST_TEST(pair.difference(whole, whole.subspan(static_cast<std::size_t>(begin))) < tolerance<D>,
               count << " tokens");
  }
}

BOOST_AUTO_TEST_CASE(what_was_read_is_forgotten_when_it_no_longer_holds) {
  Pair<Decoder<long_context, LayerNorm, GELU, TestDevice>> pair;
  Tokens text = random_tokens(30);
  const auto still_agrees = [&] {
    text.push_back(7);
    return pair.difference(text) < tolerance<TestDevice>;
  };
  BOOST_TEST(still_agrees());
  for (auto* model : {&pair.keeps, &pair.whole}) model->initialize(6, 0.3);
  BOOST_TEST(still_agrees());
  const RandomBatch other({1, 101}, 37, 3);
  pair.keeps.loss(other.batch());
  BOOST_TEST(still_agrees());
  // A refused token leaves everything else unchanged.
  Tokens wrong = text;
  wrong.push_back(37);
  BOOST_CHECK_THROW(pair.keeps.next_logits(wrong), Error);
  BOOST_TEST(still_agrees());
}

#ifndef LNFREE_TEST_CUDA
// Most outputs of a ReLU are zero: skipping rows of the second matrix changes nothing.
BOOST_AUTO_TEST_CASE(rows_that_meet_a_zero_are_not_read) {
  constexpr int depth = 700, columns = 1500;
  const std::vector<float> matrix = [&] {
    std::vector<float> numbers(std::size_t{depth} * columns);
    fill_normal(numbers.data(), depth * columns, 1, Philox(3, 0), 0);
    return numbers;
  }();
  std::vector<float> row(depth), poisoned = matrix, expected(columns), found(columns);
  fill_normal(row.data(), depth, 1, Philox(4, 0), 0);
  for (std::size_t k = 0; k < row.size(); ++k) {
    if (row[k] > -1 && k % 64 != 5) row[k] = 0;
    if (row[k] == 0) std::fill_n(poisoned.begin() + static_cast<std::ptrdiff_t>(k * columns), columns, NAN);
  }
  Cpu device;
  const auto product = [&](const std::vector<float>& right, std::vector<float>& result) {
    gemm(device, Matrix<const float>(row.data(), 1, depth), Matrix<const float>(right.data(), depth, columns),
         Matrix<float>(result.data(), 1, columns));
  };
  product(matrix, expected);
  product(poisoned, found);
  BOOST_TEST(found == expected, boost::test_tools::per_element());
  for (std::size_t j : {std::size_t{0}, std::size_t{1024}, std::size_t{1499}}) {
    double sum = 0;
    for (std::size_t k = 0; k < row.size(); ++k) sum += static_cast<double>(row[k]) * matrix[k * columns + j];
    BOOST_TEST(expected[j] == sum, boost::test_tools::tolerance(1e-4));
  }
}
#endif

BOOST_AUTO_TEST_CASE(sizes_may_be_chosen_at_run_time) {
  using Dynamic = DynamicDecoder<TestDevice>;
  const auto parts = parts_of<LayerNorm, LayerNorm, GELU, PreNorm, TestDevice>();
  Dynamic model(long_context, parts, 1, Purpose::evaluation);
  Decoder<long_context, LayerNorm, GELU, TestDevice> fixed(1, Purpose::evaluation);
  BOOST_TEST((model.config == fixed.config));
  model.initialize(5);
  fixed.initialize(5);
  const Tokens text = random_tokens(12);
  BOOST_TEST(model.next_logits(text) == fixed.next_logits(text), boost::test_tools::per_element());

  const auto refused = [&](DecoderConfig sizes, const std::string& why) {
    BOOST_CHECK_EXCEPTION(Dynamic(sizes, parts, 1), Error, [&](const Error& error) {
      return std::string(error.what()).find(why) != std::string::npos;
    });
  };
  DecoderConfig sizes = long_context;
  sizes.layers = 0;
  refused(sizes, "must all be positive");
  sizes = long_context;
  sizes.heads = 3;
  refused(sizes, "multiple of heads");
  sizes = long_context;
  sizes.positions = 100;
  refused(sizes, "at least context");
  sizes = long_context;
  sizes.rotary_dims = 12;
  refused(sizes, "rotary_dims");
}

BOOST_AUTO_TEST_SUITE_END()
