#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string_view>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <lnfree/model.hpp>

#include "support/device.hpp"
#include "support/random_batch.hpp"
#include "support/seed.hpp"

using namespace lnfree;

namespace {

/// Asks for all that there is and keeps it.
struct Everything {
  static constexpr bool observes_entropy = true, observes_stream = true, observes_scores = true,
                        observes_stream_values = true, observes_hidden_values = true, observes_losses = true,
                        observes_logits = true;

  Everything(int of_layers, int of_heads) : layers(of_layers), heads(of_heads) { reset(); }

  void reset() {
    entropy_sums.clear();
    max_scores.clear();
    losses.clear();
    for (auto* by_layer : {&squares, &stream, &hidden})
      by_layer->assign(static_cast<std::size_t>(layers), {});
    zeros.assign(static_cast<std::size_t>(layers), 0);
    logits.clear();
  }

  template <class T>
  void record(BatchShape shape, const T* sums, const std::int32_t* /*finite_rows*/) {
    entropy_sums.assign(sums, sums + layers * shape.batch * heads);
  }
  template <class T>
  void record_layer(int layer, Index /*rows*/, const std::vector<T>& column_squares, Index /*hidden*/,
                    Index zero_count) {
    squares[static_cast<std::size_t>(layer)].assign(column_squares.begin(), column_squares.end());
    zeros[static_cast<std::size_t>(layer)] = zero_count;
  }
  template <class T>
  void record_scores(BatchShape shape, const T* max) {
    max_scores.assign(max, max + layers * heads * shape.rows());
  }
  template <class T>
  void record_stream(int layer, BatchShape, Matrix<const T> x) {
    stream[static_cast<std::size_t>(layer)].assign(x.data, x.data + x.size());
  }
  template <class T>
  void record_hidden(int layer, BatchShape, Matrix<const T> values) {
    hidden[static_cast<std::size_t>(layer)].assign(values.data, values.data + values.size());
  }
  template <class T>
  void record_losses(BatchShape shape, const T* of_tokens, const std::int32_t* /*targets*/) {
    losses.assign(of_tokens, of_tokens + shape.rows());
  }
  template <class T>
  void record_logits(Index first_row, Matrix<const T> of_rows) {
    BOOST_TEST(first_row * of_rows.cols == static_cast<Index>(logits.size()));
    for (Index i = 0; i < of_rows.rows; ++i)
      logits.insert(logits.end(), of_rows.row(i), of_rows.row(i) + of_rows.cols);
  }

  int layers, heads;
  std::vector<double> entropy_sums, max_scores, losses, logits;
  std::vector<std::vector<double>> squares, stream, hidden;
  std::vector<Index> zeros;
};

using Observed = Decoder<tiny, Identity, ReLU, test::TestDevice, Everything>;

}  // namespace

BOOST_AUTO_TEST_SUITE(observation)

// Everything that is handed out fits everything else, in training and in evaluation.
BOOST_AUTO_TEST_CASE(what_an_observer_asks_for_is_what_the_pass_computes) {
  LNFREE_LOG_SEED();
  const test::RandomBatch random({3, 7}, tiny.vocab_size, test::seed());
  const Batch batch = random.batch();
  const Index rows = batch.shape.rows();
  Observed model(3);
  model.initialize(test::seed(), 0.5);
  const auto close = boost::test_tools::tolerance(1e-4);
  for (const bool trains : {true, false}) {
    model.observer().reset();
    const double loss = trains ? model.forward_backward(batch) : model.loss(batch);
    const Everything& seen = model.observer();
    double sum = 0;
    Index counted = 0;
    BOOST_TEST_REQUIRE(static_cast<Index>(seen.logits.size()) == rows * tiny.vocab_size);
    for (Index i = 0; i < rows; ++i) {
      const double* const logits = seen.logits.data() + i * tiny.vocab_size;
      const auto target = batch.targets[static_cast<std::size_t>(i)];
      const double of_token = seen.losses[static_cast<std::size_t>(i)];
      sum += of_token;
      counted += target >= 0;
      double exponentials = 0;
      for (Index j = 0; j < tiny.vocab_size; ++j) exponentials += std::exp(logits[j]);
      BOOST_TEST(of_token == (target < 0 ? 0 : std::log(exponentials) - logits[target]), close);
    }
    BOOST_TEST(loss == sum / static_cast<double>(counted), boost::test_tools::tolerance(1e-6));
    for (std::size_t l = 0; l < static_cast<std::size_t>(tiny.layers); ++l) {
      BOOST_TEST_REQUIRE(static_cast<Index>(seen.stream[l].size()) == rows * tiny.width);
      BOOST_TEST_REQUIRE(static_cast<Index>(seen.hidden[l].size()) == rows * tiny.ffn_width);
      BOOST_TEST(seen.zeros[l] == std::count(seen.hidden[l].begin(), seen.hidden[l].end(), 0.0));
      BOOST_TEST(seen.zeros[l] > 0);
      for (Index j = 0; j < tiny.width; ++j) {
        double squares = 0;
        for (Index i = 0; i < rows; ++i)
          squares += std::pow(seen.stream[l][static_cast<std::size_t>(i * tiny.width + j)], 2);
        BOOST_TEST(seen.squares[l][static_cast<std::size_t>(j)] == squares, close);
      }
    }
    BOOST_TEST(static_cast<Index>(seen.max_scores.size()) == tiny.layers * tiny.heads * rows);
    BOOST_TEST(static_cast<Index>(seen.entropy_sums.size()) == tiny.layers * tiny.heads * batch.shape.batch);
  }
}

// The first query of a head sees one key: its largest score is q_0 k_0 / sqrt(head_dim), here of the first
// layer, from weights that are read back.
BOOST_AUTO_TEST_CASE(the_largest_score_of_the_first_query) {
  LNFREE_LOG_SEED();
  const test::RandomBatch random({2, 5}, tiny.vocab_size, test::seed());
  Observed model(2);
  model.initialize(test::seed(), 0.5);
  model.loss(random.batch());
  const auto read = [&](std::string_view name) {
    for (const auto& p : model.parameters().all()) {
      if (p.name == name) return model.parameters().read(model.device(), p);
    }
    throw Error("the model has no such tensor");
  };
  const auto tokens = read("wte.weight"), positions = read("wpe.weight"),
             weight = read("h.0.attn.c_attn.weight");
  for (int b = 0; b < 2; ++b) {
    std::vector<double> qkv(static_cast<std::size_t>(3 * tiny.width));
    const auto token = random.batch().tokens[static_cast<std::size_t>(b * 5)];
    for (int c = 0; c < tiny.width; ++c) {
      const double x = static_cast<double>(tokens[static_cast<std::size_t>(token * tiny.width + c)]) +
                       static_cast<double>(positions[static_cast<std::size_t>(c)]);
      for (std::size_t j = 0; j < qkv.size(); ++j)
        qkv[j] += x * static_cast<double>(weight[static_cast<std::size_t>(c) * qkv.size() + j]);
    }
    for (int h = 0; h < tiny.heads; ++h) {
      double score = 0;
      for (int d = 0; d < tiny.head_dim(); ++d) {
        const auto q = static_cast<std::size_t>(h * tiny.head_dim() + d);
        score += qkv[q] * qkv[q + tiny.width];
      }
      score /= std::sqrt(static_cast<double>(tiny.head_dim()));
      const double ours = model.observer().max_scores[static_cast<std::size_t>((b * tiny.heads + h) * 5)];
      BOOST_TEST(std::abs(ours - score) < 1e-4 * std::max(1.0, std::abs(score)), ours << ", not " << score);
    }
  }
}

BOOST_AUTO_TEST_SUITE_END()
