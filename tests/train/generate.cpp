#include "lnfree/nn/generate.hpp"

#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <cmath>
#include <limits>
#include <vector>

#include "train/support.hpp"

using namespace lnfree;
using namespace lnfree::test;

namespace {

using Tokens = std::vector<std::int32_t>;

struct Untrained {
  Untrained() : model(1) { model.initialize(8); }
  TinyModel<LayerNorm, GELU> model;
  const Tokens prompt{3, 1, 4};
};

}  // namespace

BOOST_AUTO_TEST_SUITE(generation)

BOOST_FIXTURE_TEST_CASE(greedy_takes_the_most_likely_token, Untrained) {
  Tokens expected = prompt;
  for (int i = 0; i < 12; ++i) {
    const auto logits = model.next_logits(expected);
    BOOST_REQUIRE(logits.size() == std::size_t(tiny.vocab_size));
    expected.push_back(
        static_cast<std::int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin()));
  }
  BOOST_TEST(generate(model, prompt, 12, {.temperature = 0}) == expected, boost::test_tools::per_element());
  for (const std::uint64_t seed : {1, 2})
    BOOST_TEST(generate(model, prompt, 12, {.top_k = 1, .seed = seed}) == expected,
               boost::test_tools::per_element());
}

BOOST_FIXTURE_TEST_CASE(a_seed_gives_one_text, Untrained) {
  const auto text = [&](std::uint64_t seed) { return generate(model, prompt, 20, {.seed = seed}); };
  BOOST_TEST(text(1) == text(1), boost::test_tools::per_element());
  BOOST_TEST((text(1) != text(2)));
  BOOST_TEST(text(1).size() == prompt.size() + 20);
  const Tokens one = text(1);
  BOOST_TEST(Tokens(one.begin(), one.begin() + 3) == prompt, boost::test_tools::per_element());
}

BOOST_FIXTURE_TEST_CASE(a_long_prompt_is_cut_to_the_context, Untrained) {
  Tokens prompt_of_context;
  for (int i = 0; i < tiny.context; ++i) prompt_of_context.push_back(2 * i);
  Tokens longer(50, 7);
  longer.insert(longer.end(), prompt_of_context.begin(), prompt_of_context.end());
  const auto cut = generate(model, prompt_of_context, 5, {.seed = 3}),
             whole = generate(model, longer, 5, {.seed = 3});
  BOOST_TEST(whole.size() == longer.size() + 5);
  BOOST_TEST(Tokens(whole.end() - 5, whole.end()) == Tokens(cut.end() - 5, cut.end()),
             boost::test_tools::per_element());
}

BOOST_FIXTURE_TEST_CASE(every_token_is_told_and_may_be_the_last, Untrained) {
  Tokens told;
  const auto text = generate(model, prompt, 20, {.seed = 3}, [&](std::int32_t token) {
    told.push_back(token);
    return told.size() < 4;
  });
  BOOST_TEST(text.size() == prompt.size() + 4);
  BOOST_TEST(told == Tokens(text.begin() + 3, text.end()), boost::test_tools::per_element());
  BOOST_TEST(generate(model, prompt, 0) == prompt, boost::test_tools::per_element());
}

BOOST_FIXTURE_TEST_CASE(errors_are_said, Untrained) {
  BOOST_CHECK_EXCEPTION(generate(model, Tokens{}, 1), Error, says("at least one token"));
  BOOST_CHECK_EXCEPTION(generate(model, Tokens{37}, 1), Error, says("37", "vocabulary"));
  BOOST_CHECK_EXCEPTION(generate(model, Tokens{-1}, 1), Error, says("-1", "vocabulary"));
  for (const double temperature : {-1.0, std::numeric_limits<double>::quiet_NaN()})
    BOOST_CHECK_EXCEPTION(generate(model, prompt, 1, {.temperature = temperature}), Error,
                          says("temperature"));
  BOOST_CHECK_EXCEPTION(generate(model, prompt, 1, {.top_k = -1}), Error, says("top-k"));
}

// At 10,000 evenly spaced draws every token comes as often as softmax(logits / temperature) says.
BOOST_AUTO_TEST_CASE(tokens_come_as_often_as_the_softmax_says) {
  const std::vector<double> logits{0.5, 2, -1, 1.5, 1000 * -1.0};
  for (const int top_k : {0, 2, 99}) {
    const double temperature = 0.7;
    std::vector<double> expected(logits.size()), count(logits.size());
    double total = 0;
    for (std::size_t i = 0; i < logits.size(); ++i) {
      const bool in = top_k != 2 || i == 1 || i == 3;
      total += expected[i] = in ? std::exp(logits[i] / temperature) : 0;
    }
    for (int i = 0; i < 10000; ++i)
      ++count[sample(logits, {.temperature = temperature, .top_k = top_k}, i / 10000.0)];
    for (std::size_t i = 0; i < logits.size(); ++i)
      BOOST_TEST(std::abs(count[i] - 10000 * expected[i] / total) <= 1.5);
  }
}

BOOST_AUTO_TEST_CASE(draws_at_the_edges_stay_inside) {
  const std::vector<double> logits{-1e308, 1e308, 3};
  for (const double temperature : {1e-300, 1.0, 1e300, std::numeric_limits<double>::infinity()}) {
    for (const double draw : {0.0, 1 - 1e-16}) {
      const auto token = sample(logits, {.temperature = temperature}, draw);
      BOOST_TEST((token >= 0 && token < 3));
    }
  }
  BOOST_TEST(sample(logits, {.temperature = 1}, 0.999) == 1);
}

BOOST_AUTO_TEST_SUITE_END()
