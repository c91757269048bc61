#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <span>
#include <tuple>
#include <type_traits>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <lnfree/model.hpp>
#include <lnfree/nn/generate.hpp>

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

// Texts of different lengths, which begin and grow at different times, and one of which leaves its slot.
BOOST_AUTO_TEST_CASE_TEMPLATE(texts_that_are_read_together_have_the_logits_of_each_alone, D, TextDevices) {
  const auto check = [&]<class Model>(std::type_identity<Model>) {
    Model together(3, Purpose::generation), alone(1, Purpose::generation);
    together.initialize(5, 0.3);
    alone.initialize(5, 0.3);
    BOOST_TEST(together.max_batch() == 3);
    std::vector<Tokens> texts{random_tokens(1), random_tokens(99), Tokens(40, 9)};
    std::vector<int> slots{2, 0, 1};
    for (int step = 0; step < 8; ++step) {
      if (step == 4) {  // a text ends, and another takes its slot
        together.forget(0);
        texts[1] = random_tokens(7);
      }
      if (step == 6) {
        texts.pop_back();
        slots.pop_back();
      }
      std::vector<CachedText> kept;
      for (std::size_t i = 0; i < texts.size(); ++i) kept.push_back({slots[i], texts[i]});
      const auto found = together.next_logits_of(kept);
      BOOST_REQUIRE(found.size() == texts.size());
      for (std::size_t i = 0; i < texts.size(); ++i) {
        // All but the last token first: what the model for a single text then computes is one row.
        if (texts[i].size() > 1) alone.next_logits(std::span(texts[i]).first(texts[i].size() - 1));
        const auto expected = alone.next_logits(texts[i]);
        BOOST_REQUIRE(found[i].size() == expected.size());
        for (std::size_t v = 0; v < expected.size(); ++v)
          BOOST_TEST(std::abs(found[i][v] - expected[v]) < tolerance<D>, "step " << step << ", text " << i);
        texts[i].push_back(static_cast<std::int32_t>((7 * i + static_cast<std::size_t>(step)) % 37));
      }
    }
  };
  check(std::type_identity<Decoder<long_context, LayerNorm, GELU, D>>());
  check(std::type_identity<Decoder<rotary, Identity, ReLU, D>>());
}

BOOST_AUTO_TEST_CASE(texts_that_cannot_be_read_together_are_refused) {
  Decoder<long_context, LayerNorm, GELU, TestDevice> model(2, Purpose::generation),
      other(2, Purpose::evaluation);
  model.initialize(5);
  other.initialize(5);
  const Tokens text{1, 2};
  const auto refused = [&](auto& by, std::vector<CachedText> texts, const std::string& why) {
    BOOST_CHECK_EXCEPTION(by.next_logits_of(texts), Error, [&](const Error& error) {
      return std::string(error.what()).find(why) != std::string::npos;
    });
  };
  refused(model, {{0, text}, {0, text}}, "two texts cannot be kept in one slot, 0");
  refused(model, {{2, text}}, "no slot 2 for a text in a model that keeps 2");
  refused(model, {{-1, text}}, "no slot -1");
  refused(model, {{0, text}, {1, {}}}, "at least one token of each text");
  refused(other, {{0, text}}, "Purpose::generation");
}

#ifndef LNFREE_TEST_CUDA
// Bit for bit, with learned and rotary positions, past the context, with zeros behind a ReLU, and with more
// texts than a pass or the model takes.
BOOST_AUTO_TEST_CASE(a_text_is_the_same_whatever_is_continued_beside_it) {
  const auto check = [&]<class Model>(std::type_identity<Model>) {
    Model alone(1, Purpose::generation);
    alone.initialize(5, 0.3);
    std::vector<Tokens> prompts;
    for (int i = 0; i < 20; ++i) {
      prompts.push_back(RandomBatch({1, 1 + i * 37 % 90}, 37, static_cast<std::uint64_t>(i / 2)).tokens);
    }
    const SamplingOptions sampling{.repetition_penalty = 1.1, .temperature = 1.5, .seed = 3};
    std::vector<Tokens> expected;
    for (std::size_t i = 0; i < prompts.size(); ++i) {
      SamplingOptions own = sampling;
      own.seed += i;
      alone.forget();
      expected.push_back(generate(alone, prompts[i], 30, own));
    }
    for (const int batch : {1, 3, 18}) {
      Model model(batch, Purpose::generation);
      model.initialize(5, 0.3);
      BOOST_TEST((generate(model, std::span<const Tokens>(prompts), 30, sampling) == expected),
                 batch << " texts");
    }
    // And so are the numbers that tokens are drawn from.
    Model model(17, Purpose::generation);
    model.initialize(5, 0.3);
    std::vector<Tokens> texts(prompts.begin(), prompts.begin() + 17);
    for (int step = 0; step < 3; ++step) {
      std::vector<CachedText> kept;
      for (int i = 0; i < 17; ++i) kept.push_back({i, texts[static_cast<std::size_t>(i)]});
      const auto logits = model.next_logits_of(kept);
      for (const std::size_t i : {0, 7, 16}) {
        alone.forget();
        for (std::size_t length = prompts[i].size(); length < texts[i].size(); ++length)
          alone.next_logits(std::span(texts[i]).first(length));
        BOOST_TEST(logits[i] == alone.next_logits(texts[i]), boost::test_tools::per_element());
      }
      for (Tokens& text : texts) text.push_back(step);
    }
  };
  check(std::type_identity<Decoder<long_context, LayerNorm, GELU, Cpu>>());
  check(std::type_identity<Decoder<rotary, Identity, ReLU, Cpu>>());
}

BOOST_AUTO_TEST_CASE(texts_end_by_themselves_and_others_take_their_slots) {
  Decoder<long_context, LayerNorm, GELU, Cpu> model(2, Purpose::generation);
  model.initialize(5, 0.3);
  std::vector<int> ended, asked_while_waiting;
  std::vector<std::size_t> lengths(5);
  int next_text = 0;
  generate_together(model, [&](bool waits) -> std::optional<TextToContinue> {
    if (waits) asked_while_waiting.push_back(next_text);
    if (next_text == 5) return std::nullopt;
    const int i = next_text++;
    const std::vector<int> counts{0, 9, 2, 1, 20};
    int told = 0;
    return TextToContinue{{1, 2, 3},
                          counts[static_cast<std::size_t>(i)],
                          {.seed = 1},
                          [i, told](std::int32_t) mutable { return i != 4 || ++told < 4; },
                          [&, i](std::span<const std::int32_t> text) {
                            ended.push_back(i);
                            lengths[static_cast<std::size_t>(i)] = text.size();
                          }};
  });
  BOOST_TEST(ended == (std::vector<int>{0, 2, 3, 4, 1}), boost::test_tools::per_element());
  BOOST_TEST(lengths == (std::vector<std::size_t>{3, 12, 5, 4, 7}), boost::test_tools::per_element());
  BOOST_TEST(asked_while_waiting == (std::vector<int>{0, 1, 5}), boost::test_tools::per_element());
  BOOST_CHECK_THROW(generate(model, std::span<const Tokens>(std::vector<Tokens>{{1}, {}}), 3), Error);
}

// Few rows at once, of sizes at which panels of columns end between cache lines.
BOOST_AUTO_TEST_CASE(a_row_of_a_product_does_not_depend_on_those_beside_it) {
  constexpr int depth = 75, columns = 2047, rows = 16;
  const auto normal = [](std::size_t count, std::uint64_t seed) {
    std::vector<float> numbers(count);
    fill_normal(numbers.data(), static_cast<Index>(count), 1, Philox(seed, 0), 0);
    return numbers;
  };
  std::vector<float> left = normal(rows * depth, 1);
  for (std::size_t i = 0; i < left.size(); ++i) left[i] = i % 3 == 0 ? left[i] : 0;
  const std::vector<float> right = normal(std::size_t{depth} * columns, 2),
                           addend = normal(rows * columns, 3);
  const Matrix<const float> a(left.data(), rows, depth), added(addend.data(), rows, columns);
  Cpu device;
  for (const bool turned : {false, true}) {
    const Matrix<const float> b = turned ? Matrix<const float>(right.data(), columns, depth)
                                         : Matrix<const float>(right.data(), depth, columns);
    const Operand<float> factor = turned ? transpose(b) : Operand<float>(b);
    for (const int count : {2, 3, 5, 8, 16}) {
      std::vector<float> all(static_cast<std::size_t>(count * columns)), one(columns);
      const Matrix<float> found(all.data(), count, columns);
      gemm(device, a.top(count), factor, Output<float>(found, added.top(count)));
      for (int i = 0; i < count; ++i) {
        const Matrix<float> single(one.data(), 1, columns);
        gemm(device, a.slice(i, 1), factor, Output<float>(single, added.slice(i, 1)));
        BOOST_TEST(std::equal(one.begin(), one.end(), found.row(i)), "row " << i << " of " << count);
        double sum = addend[static_cast<std::size_t>(i * columns + 2000)];
        for (int k = 0; k < depth; ++k)
          sum += double{a.row(i)[k]} * (turned ? b.row(2000)[k] : b.row(k)[2000]);
        BOOST_TEST(std::abs(found.row(i)[2000] - sum) < 1e-4);
      }
    }
  }
}

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
