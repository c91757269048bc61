#include <lnfree/observer/sink_observer.hpp>

#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <lnfree/model.hpp>

#include "support/random_batch.hpp"
#include "support/seed.hpp"

using namespace lnfree;

namespace {

/// Q | K | V and the sums of exponentials of a layer, made by hand.
struct HandMade {
  AttentionShape shape;
  std::vector<double> qkv, log_sums;

  template <class F>
  HandMade(AttentionShape of, const F& value) : shape(of) {
    for (Index i = 0; i < shape.rows(); ++i) {
      for (Index c = 0; c < 3 * shape.width(); ++c) qkv.push_back(value(i, c));
    }
    for (int b = 0; b < shape.batch; ++b) {
      for (int h = 0; h < shape.heads; ++h) {
        for (int i = 0; i < shape.length; ++i) log_sums.push_back(std::log(exponentials(b, h, i)));
      }
    }
  }

  double score(int b, int h, int i, int j) const {
    double sum = 0;
    for (int c = h * shape.head_dim; c < (h + 1) * shape.head_dim; ++c)
      sum += at(b * shape.length + i, c) * at(b * shape.length + j, shape.width() + c);
    return sum / std::sqrt(shape.head_dim);
  }
  double exponentials(int b, int h, int i) const {
    double sum = 0;
    for (int j = 0; j <= i; ++j) sum += std::exp(score(b, h, i, j));
    return sum;
  }
  /// The mean of a_i0 by the softmax written out.
  double share(int h) const {
    double sum = 0;
    for (int b = 0; b < shape.batch; ++b) {
      for (int i = 1; i < shape.length; ++i) sum += std::exp(score(b, h, i, 0)) / exponentials(b, h, i);
    }
    return sum / (shape.batch * (shape.length - 1));
  }
  void record(SinkObserver& observer, int layer) const {
    observer.record_attention(layer, shape, Matrix<const double>(qkv.data(), shape.rows(), 3 * shape.width()),
                              log_sums.data());
  }

 private:
  double at(int row, int column) const {
    return qkv[static_cast<std::size_t>(row * 3 * shape.width() + column)];
  }
};

double wave(Index i, Index c) {
  return std::sin(static_cast<double>(7 * i + 3 * c + i * c));
}

}  // namespace

BOOST_AUTO_TEST_SUITE(sink_observer)

BOOST_AUTO_TEST_CASE(the_first_column_of_the_softmax) {
  static_assert(Observer<SinkObserver>);
  const HandMade layer({2, 6, 3, 4}, wave);
  SinkObserver observer(2, 3);
  layer.record(observer, 1);
  for (int h = 0; h < 3; ++h) {
    const auto head = static_cast<std::size_t>(h);
    BOOST_TEST(observer.shares()[1][head] == layer.share(h), boost::test_tools::tolerance(1e-9));
    BOOST_TEST(std::isnan(observer.shares()[0][head]));
  }
  observer.reset();
  BOOST_TEST(std::isnan(observer.shares()[1][0]));
}

// With equal scores query i gives 1 / (i + 1). One head of four, whose first key gets all attention, is a
// sink.
BOOST_AUTO_TEST_CASE(uniform_heads_and_a_sink) {
  const AttentionShape shape{1, 4, 2, 1};
  const HandMade uniform(shape, [](Index, Index) { return 0.0; });
  const HandMade one(shape, [](Index i, Index c) {
    return c == 1 ? 1.0 : c == 3 && i == 0 ? 50.0 : 0.0;  // the second head's queries, and its first key
  });
  SinkObserver observer(2, 2);
  uniform.record(observer, 0);
  one.record(observer, 1);
  BOOST_TEST(observer.shares()[0][1] == (1 / 2.0 + 1 / 3.0 + 1 / 4.0) / 3,
             boost::test_tools::tolerance(1e-12));
  BOOST_TEST(observer.shares()[1][1] == 1.0, boost::test_tools::tolerance(1e-9));
  BOOST_TEST(observer.sink_rate() == 0.25);
}

BOOST_AUTO_TEST_CASE(queries_that_are_no_numbers_do_not_count) {
  HandMade layer({1, 4, 1, 1}, [](Index, Index) { return 0.0; });
  layer.log_sums[2] = std::numeric_limits<double>::quiet_NaN();
  SinkObserver observer(1, 1);
  layer.record(observer, 0);
  BOOST_TEST(observer.shares()[0][0] == (1 / 2.0 + 1 / 4.0) / 2, boost::test_tools::tolerance(1e-12));
}

// A whole model whose queries are zero attends uniformly.
BOOST_AUTO_TEST_CASE(sinks_of_a_model) {
  LNFREE_LOG_SEED();
  const test::RandomBatch random({2, 5}, tiny.vocab_size, test::seed());
  Decoder<tiny, LayerNorm, GELU, Cpu, SinkObserver> model(2);
  model.initialize(test::seed());
  model.observer().reset();
  for (auto& p : model.parameters().all()) {
    if (!p.name.ends_with("c_attn.weight")) continue;
    auto values = model.parameters().read(model.device(), p);
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (i % (3 * tiny.width) < tiny.width) values[i] = 0;
    }
    model.parameters().write(model.device(), p, values.data());
  }
  model.loss(random.batch());
  for (const auto& layer : model.observer().shares()) {
    for (const double share : layer)
      BOOST_TEST(share == (1 / 2.0 + 1 / 3.0 + 1 / 4.0 + 1 / 5.0) / 4, boost::test_tools::tolerance(1e-5));
  }
}

BOOST_AUTO_TEST_SUITE_END()
