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
  BOOST_CHECK_EXCEPTION(generate(model, Tokens{}, 1), Error, contains("at least one token"));
  BOOST_CHECK_EXCEPTION(generate(model, Tokens{37}, 1), Error, contains("37", "vocabulary"));
  BOOST_CHECK_EXCEPTION(generate(model, Tokens{-1}, 1), Error, contains("-1", "vocabulary"));
  for (const double temperature : {-1.0, std::numeric_limits<double>::quiet_NaN()})
    BOOST_CHECK_EXCEPTION(generate(model, prompt, 1, {.temperature = temperature}), Error,
                          contains("temperature"));
  BOOST_CHECK_EXCEPTION(generate(model, prompt, 1, {.top_k = -1}), Error, contains("top-k"));
  for (const double top_p : {0.0, -1.0, 1.1})
    BOOST_CHECK_EXCEPTION(generate(model, prompt, 1, {.top_p = top_p}), Error, contains("top-p"));
  for (const double min_p : {-0.1, 1.1})
    BOOST_CHECK_EXCEPTION(generate(model, prompt, 1, {.min_p = min_p}), Error, contains("min-p"));
  BOOST_CHECK_EXCEPTION(generate(model, prompt, 1, {.repetition_penalty = 0}), Error, contains("penalty"));
  std::vector<double> diverged{1, std::numeric_limits<double>::quiet_NaN(), 2};
  BOOST_CHECK_EXCEPTION(next_token(diverged, {}, {}, 0), Error, contains("has diverged"));
}

// With 10,000 evenly spaced draws every token occurs as often as softmax(logits / temperature) predicts.
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

// Of probabilities 0.5, 0.25, 0.125, 0.0625 and the rest: which tokens occur, and how often.
BOOST_AUTO_TEST_CASE(unlikely_tokens_are_left_out) {
  std::vector<double> logits;
  for (const double p : {0.0625, 0.5, 0.125, 0.0625, 0.25}) logits.push_back(std::log(p));
  const auto shares = [&](const SamplingOptions& options) {
    std::vector<double> count(logits.size());
    for (int i = 0; i < 16000; ++i) ++count[std::size_t(sample(logits, options, (i + 0.5) / 16000))];
    for (double& c : count) c = std::round(c / 16000 * 120);  // Of 120, which all the sums below divide.
    return count;
  };
  using Shares = std::vector<double>;
  BOOST_TEST(shares({.top_p = 0.75}) == (Shares{0, 80, 0, 0, 40}), boost::test_tools::per_element());
  BOOST_TEST(shares({.top_p = 0.7501}) == (Shares{0, 69, 17, 0, 34}), boost::test_tools::per_element());
  BOOST_TEST(shares({.top_p = 1e-9}) == (Shares{0, 120, 0, 0, 0}), boost::test_tools::per_element());
  BOOST_TEST(shares({.min_p = 0.49}) == (Shares{0, 80, 0, 0, 40}), boost::test_tools::per_element());
  BOOST_TEST(shares({.min_p = 0.51}) == (Shares{0, 120, 0, 0, 0}), boost::test_tools::per_element());
  BOOST_TEST(shares({.min_p = 0.12}) == (Shares{8, 60, 15, 8, 30}), boost::test_tools::per_element());
  // top-p of what top-k has left: 0.5 of 0.75 is two thirds.
  BOOST_TEST(shares({.top_k = 2, .top_p = 0.66}) == (Shares{0, 120, 0, 0, 0}),
             boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(a_token_of_the_text_is_penalized_once) {
  std::vector<double> logits{2, -2, 0, 4, -4};
  penalize_repetition(logits, Tokens{3, 1, 3, 3, 99}, 2);
  BOOST_TEST(logits == (std::vector<double>{2, -4, 0, 2, -4}), boost::test_tools::per_element());
}

BOOST_FIXTURE_TEST_CASE(a_penalty_changes_the_text_and_forbids_no_token, Untrained) {
  const auto plain = generate(model, prompt, 30, {.temperature = 0});
  const auto distinct = [](Tokens tokens) {
    std::sort(tokens.begin(), tokens.end());
    return std::unique(tokens.begin(), tokens.end()) - tokens.begin();
  };
  BOOST_TEST(distinct(generate(model, prompt, 30, {.repetition_penalty = 1e6, .temperature = 0})) >
             distinct(plain));
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
