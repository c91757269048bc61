#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <lnfree/model.hpp>

#include "support/device.hpp"
#include "support/random_batch.hpp"
#include "support/seed.hpp"

using namespace lnfree;

namespace {

/// Asks for everything and keeps it.
struct Everything {
  static constexpr bool observes_entropy = true, observes_stream = true, observes_scores = true,
                        observes_stream_values = true, observes_hidden_values = true, observes_losses = true,
                        observes_logits = true, observes_attention = true, observes_stream_parts = true;

  Everything(int of_layers, int of_heads) : layers(of_layers), heads(of_heads) { reset(); }

  void reset() {
    entropy_sums.clear();
    max_scores.clear();
    losses.clear();
    for (auto* by_layer : {&squares, &stream, &hidden})
      by_layer->assign(static_cast<std::size_t>(layers), {});
    zeros.assign(static_cast<std::size_t>(layers), 0);
    logits.clear();
    parts.clear();
    attention.assign(static_cast<std::size_t>(layers), {});
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

  template <class T>
  void record_attention(int layer, AttentionShape shape, Matrix<const T> qkv, const T* log_sums) {
    Attention& to = attention[static_cast<std::size_t>(layer)];
    to.shape = shape;
    to.qkv.assign(qkv.data, qkv.data + qkv.size());
    to.log_sums.assign(log_sums, log_sums + shape.rows() * shape.heads);
  }
  template <class T>
  void record_part(int layer, StreamPart added, BatchShape, Matrix<const T> x) {
    parts.push_back({layer, added, {x.data, x.data + x.size()}});
  }

  struct Attention {
    AttentionShape shape;
    std::vector<double> qkv, log_sums;
  };
  struct Part {
    int layer;
    StreamPart added;
    std::vector<double> x;
  };

  int layers, heads;
  std::vector<Attention> attention;
  std::vector<Part> parts;
  std::vector<double> entropy_sums, max_scores, losses, logits;
  std::vector<std::vector<double>> squares, stream, hidden;
  std::vector<Index> zeros;
};

using Observed = Decoder<tiny, Identity, ReLU, test::TestDevice, Everything>;

std::vector<double> read(Observed& model, std::string_view name) {
  for (const auto& p : model.parameters().all()) {
    if (p.name != name) continue;
    const auto values = model.parameters().read(model.device(), p);
    return {values.begin(), values.end()};
  }
  throw Error("the model has no such tensor");
}

/// What a feed-forward network adds to the stream is its hidden layer times its second matrix.
void check_feed_forward(Observed& model, const Everything& seen) {
  for (int l = 0; l < tiny.layers; ++l) {
    const auto at = static_cast<std::size_t>(l);
    const std::vector<double> weight = read(model, "h." + std::to_string(l) + ".mlp.c_proj.weight");
    const auto &before = seen.parts[2 * at + 1].x, &after = seen.parts[2 * at + 2].x;
    double largest = 0;
    for (std::size_t i = 0; i < after.size(); ++i) {
      const std::size_t row = i / tiny.width, column = i % tiny.width;
      double sum = 0;
      for (std::size_t k = 0; k < tiny.ffn_width; ++k)
        sum += seen.hidden[at][row * tiny.ffn_width + k] * weight[k * tiny.width + column];
      largest = std::max(largest, std::abs(after[i] - before[i] - sum) / (1 + std::abs(after[i])));
    }
    BOOST_TEST(largest < 1e-4, "layer " << l << ": " << largest);
  }
}

/// The sums of exponentials are those of the scores that queries and keys make.
void check_log_sums(const Everything& seen) {
  for (const auto& [shape, qkv, log_sums] : seen.attention) {
    BOOST_TEST_REQUIRE(shape.width() == tiny.width);
    const Index width = shape.width();
    for (Index at = 0; at < static_cast<Index>(log_sums.size()); ++at) {
      const Index b = at / (shape.heads * shape.length), h = at / shape.length % shape.heads,
                  i = at % shape.length;
      std::vector<double> scores;
      double size = 0;  // of the terms of the largest score
      for (Index j = 0; j <= i; ++j) {
        double score = 0, terms = 0;
        for (Index c = h * shape.head_dim; c < (h + 1) * shape.head_dim; ++c) {
          const auto query = static_cast<std::size_t>((b * shape.length + i) * 3 * width + c);
          const auto key = static_cast<std::size_t>((b * shape.length + j) * 3 * width + width + c);
          score += qkv[query] * qkv[key];
          terms += std::abs(qkv[query] * qkv[key]);
        }
        scores.push_back(score / std::sqrt(shape.head_dim));
        size = std::max(size, terms);
      }
      const double max = *std::max_element(scores.begin(), scores.end());
      double sum = 0;
      for (const double score : scores) sum += std::exp(score - max);
      const double log_sum = log_sums[static_cast<std::size_t>(at)];
      BOOST_TEST(std::abs(log_sum - max - std::log(sum)) < 1e-5 * (1 + size));
    }
  }
}

}  // namespace

BOOST_AUTO_TEST_SUITE(observation)

// All observed data are consistent, in training and in evaluation.
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
    BOOST_TEST_REQUIRE(static_cast<Index>(seen.parts.size()) == 1 + 2 * tiny.layers);
    for (std::size_t p = 0; p < seen.parts.size(); ++p) {
      BOOST_TEST(seen.parts[p].layer == (p == 0 ? 0 : static_cast<int>(p - 1) / 2));
      BOOST_TEST((seen.parts[p].added == (p == 0       ? StreamPart::embedding
                                          : p % 2 == 1 ? StreamPart::attention
                                                       : StreamPart::feed_forward)));
      if (p > 0 && p % 2 == 0)
        BOOST_TEST((seen.parts[p].x == seen.stream[p / 2 - 1]), "the stream after layer " << p / 2 - 1);
    }
    check_feed_forward(model, seen);
    check_log_sums(seen);
    BOOST_TEST(static_cast<Index>(seen.max_scores.size()) == tiny.layers * tiny.heads * rows);
    BOOST_TEST(static_cast<Index>(seen.entropy_sums.size()) == tiny.layers * tiny.heads * batch.shape.batch);
  }
}

// The first query of a head attends to one key: its largest score is q_0 k_0 / sqrt(head_dim), here of the
// first layer, from weights that are read back.
BOOST_AUTO_TEST_CASE(the_largest_score_of_the_first_query) {
  LNFREE_LOG_SEED();
  const test::RandomBatch random({2, 5}, tiny.vocab_size, test::seed());
  Observed model(2);
  model.initialize(test::seed(), 0.5);
  model.loss(random.batch());
  const auto tokens = read(model, "wte.weight"), positions = read(model, "wpe.weight"),
             weight = read(model, "h.0.attn.c_attn.weight");
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

// Parts end where the layer ends, whatever norms the branches have; norms in the stream leave no sum.
BOOST_AUTO_TEST_CASE(parts_of_the_stream_by_layout) {
  LNFREE_LOG_SEED();
  const test::RandomBatch random({2, 5}, tiny.vocab_size, test::seed());
  using Device = test::TestDevice;
  const auto parts_of_model = [&](const DecoderParts<Device>& parts) {
    DynamicDecoder<Device, Everything> model(tiny, parts, 2, Purpose::evaluation);
    model.initialize(test::seed(), 0.5);
    model.loss(random.batch());
    const Everything& seen = model.observer();
    for (std::size_t p = 2; p < seen.parts.size(); p += 2) {
      BOOST_TEST((seen.parts[p].x == seen.stream[p / 2 - 1]));
      BOOST_TEST((seen.parts[p].x != seen.parts[p - 1].x));
      BOOST_TEST((seen.parts[p - 1].x != seen.parts[p - 2].x));
      BOOST_TEST((seen.parts[p].added == StreamPart::feed_forward));
    }
    return static_cast<int>(seen.parts.size());
  };
  const int all = 1 + 2 * tiny.layers;
  BOOST_TEST(parts_of_model(parts_of<LayerNorm, LayerNorm, ReLU, Parallel, Device>()) == all);
  BOOST_TEST(parts_of_model(parts_of<LayerNorm, LayerNorm, ReLU, Sandwich, Device>()) == all);
  BOOST_TEST(parts_of_model(parts_of<LayerNorm, LayerNorm, ReLU, PostNorm, Device>()) == 1);
  BOOST_TEST(parts_of_model(parts_of<Identity, LayerNorm, ReLU, PostNorm, Device>()) == all);
}

BOOST_AUTO_TEST_SUITE_END()
