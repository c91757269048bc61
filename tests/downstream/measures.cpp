#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <lnfree/checkpoint/named_parts.hpp>
#include <lnfree/model.hpp>
#include <lnfree/observer/observers.hpp>

#include "../../examples/downstream/annotated_text.hpp"
#include "../../examples/downstream/attribution.hpp"
#include "../../examples/downstream/predictions.hpp"
#include "support/random_batch.hpp"
#include "support/seed.hpp"
#include "support/temporary_folder.hpp"

using namespace lnfree;
using namespace downstream;

namespace {

const auto closely = boost::test_tools::tolerance(1e-5);

/// Keeps all logits.
struct KeepsLogits {
  static constexpr bool observes_logits = true;
  KeepsLogits(int, int) {}
  void reset() {}
  template <class T>
  void record_logits(Index first_row, Matrix<const T> logits) {
    kept.resize(std::max(kept.size(), static_cast<std::size_t>(first_row + logits.rows)));
    for (Index i = 0; i < logits.rows; ++i)
      kept[static_cast<std::size_t>(first_row + i)].assign(logits.row(i), logits.row(i) + logits.cols);
  }
  std::vector<std::vector<double>> kept;
};

using Observed = Observers<PredictionObserver, AttributionObserver, KeepsLogits>;
using Model = DynamicDecoder<Cpu, Observed>;

/// A model of random weights, its predictions of a random batch, and its attribution.
struct Predicted {
  test::RandomBatch random{{3, 7}, tiny.vocab_size, test::seed()};
  Model model;
  std::vector<Prediction> predictions;

  Predicted(const std::string& norm, const std::string& final_norm, const std::string& layout)
      : model(tiny, parts_named<Cpu>(norm, final_norm, "relu", layout), 3, Purpose::evaluation) {
    model.initialize(test::seed(), 0.5);
    Observed& observer = model.observer();
    observer.set_closing({{{1, 4}, {2}, {}}});
    observer.set_model(logit_map<KnownPolicies>(model, final_norm), centered_output_rows(model), tiny.width);
    observer.expect(random.targets);
    model.loss(random.batch());
    predictions = observer.predictions();
    observer.AttributionObserver::add(predictions);
  }
};

/// The probabilities of a row of logits.
std::vector<double> softmax(const std::vector<double>& logits) {
  double sum = 0;
  for (const double x : logits) sum += std::exp(x);
  std::vector<double> p;
  for (const double x : logits) p.push_back(std::exp(x) / sum);
  return p;
}

/// Text and classes of a line such as "def f(", with the tokens' lengths.
struct Cut {
  AnnotatedText text;
  std::vector<std::size_t> begins{0};

  Cut(std::string content, std::string classes, const std::vector<std::size_t>& lengths)
      : text{std::move(content), std::move(classes)} {
    for (const std::size_t length : lengths) begins.push_back(begins.back() + length);
    BOOST_TEST_REQUIRE(begins.back() == text.text.size());
    BOOST_TEST_REQUIRE(text.text.size() == text.classes.size());
  }
  std::vector<TokenNote> notes(std::size_t first, std::size_t last) const {
    return notes_of(text, begins, first, last);
  }
};

}  // namespace

BOOST_AUTO_TEST_SUITE(downstream_measures)

BOOST_AUTO_TEST_CASE(predictions_are_those_of_the_logits) {
  LNFREE_LOG_SEED();
  Predicted predicted("identity", "layer_norm", "pre_norm");
  const auto& logits = predicted.model.observer().kept;
  BOOST_TEST_REQUIRE(logits.size() == predicted.predictions.size());
  for (std::size_t row = 0; row < logits.size(); ++row) {
    const Prediction& ours = predicted.predictions[row];
    BOOST_TEST(ours.target == predicted.random.targets[row]);
    if (ours.target < 0) continue;
    const std::vector<double> p = softmax(logits[row]);
    double entropy = 0, mean = 0;
    for (std::size_t v = 0; v < p.size(); ++v) {
      entropy -= p[v] * std::log(p[v]);
      mean += logits[row][v] / static_cast<double>(p.size());
    }
    const auto target = static_cast<std::size_t>(ours.target);
    BOOST_TEST(ours.best == std::max_element(p.begin(), p.end()) - p.begin());
    BOOST_TEST(ours.confidence == *std::max_element(p.begin(), p.end()), closely);
    BOOST_TEST(ours.loss == -std::log(p[target]), closely);
    BOOST_TEST(std::abs(ours.entropy - entropy) < 1e-5);
    BOOST_TEST(std::abs(ours.logit - (logits[row][target] - mean)) < 1e-5 * (1 + std::abs(ours.logit)));
    BOOST_TEST(ours.closing[0] == p[1] + p[4], closely);
    BOOST_TEST(ours.closing[1] == p[2], closely);
    BOOST_TEST(ours.closing[2] == 0.0);
  }
}

// More columns than one short sum has, and logits whose exponentials would overflow.
BOOST_AUTO_TEST_CASE(predictions_of_many_and_of_large_logits) {
  std::vector<float> row(1000);
  for (std::size_t v = 0; v < row.size(); ++v) row[v] = static_cast<float>(std::sin(static_cast<double>(v)));
  const std::vector<double> p = softmax({row.begin(), row.end()});
  for (const float shift : {0.0f, 1000.0f}) {
    std::vector<float> shifted = row;
    for (float& x : shifted) x += shift;
    const Prediction ours = predict(shifted, 777, {});
    BOOST_TEST(ours.loss == -std::log(p[777]), boost::test_tools::tolerance(1e-4));
    double entropy = 0;
    for (const double share : p) entropy -= share * std::log(share);
    BOOST_TEST(ours.entropy == entropy, boost::test_tools::tolerance(1e-4));
  }
}

// All logits equal: the model knows nothing and is calibrated.
BOOST_AUTO_TEST_CASE(a_uniform_prediction) {
  const std::vector<float> row(50, 2.5f);
  Calibration calibration;
  for (std::int32_t target = 0; target < 50; ++target) {
    const Prediction uniform = predict(row, target, {});
    BOOST_TEST(uniform.entropy == std::log(50.0), closely);
    BOOST_TEST(uniform.loss == std::log(50.0), closely);
    BOOST_TEST(uniform.confidence == 1 / 50.0, closely);
    BOOST_TEST(uniform.best == 0);
    calibration.add(uniform);
  }
  BOOST_TEST(std::abs(calibration.error()) < 1e-6);  // one in 50 is right
  BOOST_TEST(calibration.entropy() == std::log(50.0), closely);
}

// Bins by hand: confidences 0.95 (right), 0.97 (wrong), 0.1 (right).
BOOST_AUTO_TEST_CASE(the_calibration_error_by_hand) {
  Calibration calibration;
  BOOST_TEST(calibration.error() == 0);
  const auto add = [&](double confidence, bool correct) {
    Prediction prediction;
    prediction.target = 1;
    prediction.best = correct ? 1 : 0;
    prediction.confidence = confidence;
    calibration.add(prediction);
  };
  add(0.95, true);
  add(0.97, false);
  add(0.1, true);
  add(1.0, true);  // in the last bin, which is closed
  const double last = std::abs(2.0 / 3 - (0.95 + 0.97 + 1.0) / 3), second = 1 - 0.1;
  BOOST_TEST(calibration.error() == (3 * last + 1 * second) / 4, boost::test_tools::tolerance(1e-12));
  const Json json = calibration.json();
  BOOST_TEST(json["bins"].size() == 15u);
  BOOST_TEST(json["bins"][14]["targets"] == 3);
  BOOST_TEST(json["bins"][1]["targets"] == 1);
  BOOST_TEST(json["bins"][0]["accuracy"].is_null());
}

BOOST_AUTO_TEST_CASE(tallies_by_hand) {
  Prediction right, wrong;
  right.target = right.best = wrong.target = 3;
  right.loss = 1;
  wrong.loss = 4;
  right.closing = {0.2, 0.1, 0.1};
  Tally tally;
  for (const auto& one : {right, wrong, wrong, wrong}) tally.add(one);
  const Json expected{{"targets", 4}, {"accuracy", 0.25}, {"loss", 3.25}};
  BOOST_TEST(tally.json() == expected);
  BOOST_TEST(Tally().json()["accuracy"].is_null());
  BracketTally brackets;
  brackets.add(right, 0, 0);
  brackets.add(right, 1, 0);
  brackets.add(wrong, 2, -1);  // no probability on any bracket
  BOOST_TEST(brackets.json()["accuracy"].get<double>() == 1 / 3.0, closely);
  BOOST_TEST(brackets.json()["probability_share"].get<double>() == (0.5 + 0.25 + 0) / 3, closely);
}

BOOST_AUTO_TEST_CASE(classes_of_tokens) {
  //             0   1    2  3  4   5  6     7
  //            def| f|(x,|  |y| ):|\n |  # c
  const Cut cut("def f(x, y ):\n  # c", "kkkwioiowiwoowwwccc", {3, 2, 3, 1, 1, 3, 2, 4});
  const std::vector<TokenNote> notes = cut.notes(0, 8);
  const std::vector<TokenClass> expected{TokenClass::keyword,    TokenClass::identifier, TokenClass::op,
                                         TokenClass::whitespace, TokenClass::identifier, TokenClass::op,
                                         TokenClass::whitespace, TokenClass::comment};
  for (std::size_t t = 0; t < expected.size(); ++t) {
    BOOST_TEST((notes[t].kind == expected[t]), "token " << t);
    BOOST_TEST(notes[t].closes == (t == 5 ? ')' : 0));
  }
  // A bracket in a string closes nothing.
  const Cut quoted("')'", "sss", {1, 2});
  BOOST_TEST(quoted.notes(0, 2)[1].closes == 0);
}

BOOST_AUTO_TEST_CASE(closing_brackets_of_tokens) {
  BOOST_TEST(closing_bracket("]") == ']');
  BOOST_TEST(closing_bracket("  })") == '}');
  BOOST_TEST(closing_bracket("(") == 0);
  BOOST_TEST(closing_bracket("x)") == 0);
  BOOST_TEST(closing_bracket("   ") == 0);
  BOOST_TEST(closing_bracket("") == 0);
}

// Names in several tokens; the same spelling inside a longer one, or in a string, does not count.
BOOST_AUTO_TEST_CASE(distances_of_names) {
  //             0   1  2  3   4  5  6    7  8   9  10  11
  const Cut cut("alpha=al+alpha*'al'*al+beta\n",
                "iiiiioiioiiiiiosssso"
                "iioiiiiw",
                {2, 3, 1, 2, 1, 2, 3, 1, 4, 1, 2, 1, 4, 1});
  const auto notes = cut.notes(0, 14);
  const std::map<std::size_t, int> expected{{0, 0}, {1, 0}, {3, 0}, {5, 5}, {6, 5}, {10, 7}, {12, 0}};
  for (std::size_t t = 0; t < notes.size(); ++t) {
    const auto found = expected.find(t);
    BOOST_TEST(notes[t].distance == (found == expected.end() ? -1 : found->second), "token " << t);
  }
  // A window that begins within a name does not count that name, or anything before.
  const auto later = cut.notes(1, 14);
  BOOST_TEST(later[0].distance == -1);
  BOOST_TEST(later[2].distance == 0);
  BOOST_TEST(later[4].distance == 0);
  // Twice in one token, and then again.
  const Cut twice("a.a a", "ioiwi", {3, 2});
  BOOST_TEST(twice.notes(0, 2)[0].distance == 0);
  BOOST_TEST(twice.notes(0, 2)[1].distance == 1);
}

BOOST_AUTO_TEST_CASE(annotated_files_that_are_none) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "annotated.jsonl";
  const auto refuses = [&](const std::string& content, const std::string& words) {
    std::ofstream(path) << content;
    BOOST_CHECK_EXCEPTION(read_annotated(path), Error, [&](const Error& error) {
      return std::string(error.what()).find(words) != std::string::npos;
    });
  };
  refuses("", "holds no text");
  refuses("{\"text\": \"x\", \"classes\": \"i\"}\n[]\n", "line 2 is not a JSON object with a text \"text\"");
  refuses("{\"text\": \"x\"}\n", "line 1 is not a JSON object with a text \"classes\"");
  refuses("{\"text\": \"\xc3\xa4\", \"classes\": \"i\"}\n", "line 1 has 1 classes for 2 bytes");
  refuses("{\"text\": \"x\", \"classes\": \"q\"}\n", "line 1 has an unknown class");
  BOOST_CHECK_THROW(read_annotated(folder.path()), Error);
  std::ofstream(path) << "{\"name\": \"a\", \"text\": \"x\", \"classes\": \"i\"}\n";
  BOOST_TEST(read_annotated(path).at(0).text == "x");
}

// Without a final norm the contributions add up to the logit, and attribution equals the effect of removal up
// to rounding.
BOOST_AUTO_TEST_CASE(attribution_is_exact_without_a_final_norm) {
  LNFREE_LOG_SEED();
  for (const char* norm : {"identity", "layer_norm"}) {
    for (const char* layout : {"pre_norm", "parallel", "sandwich"}) {
      const Predicted predicted(norm, "identity", layout);
      const AttributionObserver& attribution = predicted.model.observer();
      BOOST_TEST(attribution.error() < 1e-12, norm << " " << layout);
      BOOST_TEST(attribution.sum_error() < 1e-5, norm << " " << layout << ": " << attribution.sum_error());
      BOOST_TEST(attribution.json()["parts"].size() == 1u + 2 * tiny.layers);
      BOOST_TEST(attribution.json()["parts"][3]["part"] == "attention 1");
    }
  }
  // The norms of a post-norm model are in its stream.
  const Predicted post("layer_norm", "identity", "post_norm");
  BOOST_TEST(!static_cast<const AttributionObserver&>(post.model.observer()).is_defined());
  BOOST_TEST(static_cast<const AttributionObserver&>(post.model.observer()).json().is_null());
}

// With a final LayerNorm the contributions still add up, with its scale held fixed, but they are not the
// effects of removal.
BOOST_AUTO_TEST_CASE(attribution_with_a_final_norm) {
  LNFREE_LOG_SEED();
  for (const char* final_norm : {"layer_norm", "rms_norm"}) {
    const Predicted predicted("identity", final_norm, "pre_norm");
    const AttributionObserver& attribution = predicted.model.observer();
    BOOST_TEST(attribution.sum_error() < 1e-5, final_norm << ": " << attribution.sum_error());
    BOOST_TEST(attribution.error() > 1e-2, final_norm << ": " << attribution.error());
    double effect = 0, error = 0;
    const Json json = attribution.json();
    for (const std::size_t part : {1u, 3u}) {  // the attention of each layer
      effect += json["parts"][part]["effect"].get<double>();
      error += json["parts"][part]["effect"].get<double>() * json["parts"][part]["error"].get<double>();
    }
    BOOST_TEST(json["attention_error"].get<double>() == error / effect, closely);
  }
  BOOST_TEST(static_cast<const AttributionObserver&>(
                 Predicted("identity", "dynamic_tanh", "pre_norm").model.observer())
                 .error() > 1e-3);
}

// The formulas written as loops, with gain and bias that differ from their initial values.
BOOST_AUTO_TEST_CASE(the_map_of_a_layer_norm) {
  const std::vector<double> gain{1.5, -0.5, 2, 1}, bias{0.1, 0.2, -0.3, 0}, w{1, -2, 0.5, 3},
      x{2, -1, 0.5, 4}, c{1, 1, -0.5, 2};
  const auto normed = [&](const std::vector<double>& of, double scale) {
    const double mean = (of[0] + of[1] + of[2] + of[3]) / 4;
    double sum = 0;
    for (std::size_t j = 0; j < 4; ++j) sum += w[j] * (gain[j] * (of[j] - mean) * scale + bias[j]);
    return sum;
  };
  const auto scale = [](const std::vector<double>& of) {
    const double mean = (of[0] + of[1] + of[2] + of[3]) / 4;
    double squares = 0;
    for (const double value : of) squares += (value - mean) * (value - mean);
    return 1 / std::sqrt(squares / 4 + 1e-5);
  };
  std::vector<double> left;
  for (std::size_t j = 0; j < 4; ++j) left.push_back(x[j] - c[j]);
  const LogitMap map = norm_map<LayerNorm>(4, {gain, bias});
  BOOST_TEST(map.logit(w.data(), x.data()) == normed(x, scale(x)), closely);
  BOOST_TEST(map.logit(w.data(), left.data()) == normed(left, scale(left)), closely);
  BOOST_TEST(map.effect(w.data(), x.data(), c.data()) == normed(x, scale(x)) - normed(left, scale(x)),
             closely);
  double of_bias = 0;
  for (std::size_t j = 0; j < 4; ++j) of_bias += w[j] * bias[j];
  BOOST_TEST(map.rest(w.data(), x.data()) == of_bias, closely);
  // For a pointwise norm, the tangent: a gain of 2, tanh(0.5 x).
  const LogitMap pointwise = norm_map<DynamicTanh>(1, {{0.5}, {2}, {0.25}});
  const double one = 1, at = 0.8, removed = 0.3, slope = 2 * 0.5 * (1 - std::pow(std::tanh(0.4), 2));
  BOOST_TEST(pointwise.logit(&one, &at) == 2 * std::tanh(0.4) + 0.25, closely);
  BOOST_TEST(pointwise.effect(&one, &at, &removed) == slope * removed, closely);
}

BOOST_AUTO_TEST_SUITE_END()
