#include <lnfree/objective/entropy_guided.hpp>

#include <cmath>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <lnfree/model.hpp>

#include "support/random_batch.hpp"
#include "support/seed.hpp"

using namespace lnfree;

namespace {

using Model = Decoder<tiny, Identity, GELU, Cpu, EntropyObserver, PreNorm, EntropyGuided>;

/// The mean distance of the heads' entropies from their thresholds, in nats.
double mean_deviation(Model& model) {
  double sum = 0;
  for (const auto& p : model.parameters().all()) {
    if (p.kind != ParameterKind::threshold) continue;
    const auto thresholds = model.parameters().read(model.device(), p);
    for (int l = 0; l < tiny.layers; ++l) {
      for (int h = 0; h < tiny.heads; ++h)
        sum += std::abs(model.observer().head_entropy(l, h) - thresholds[h] * std::log(9.0));
    }
  }
  return sum / (tiny.layers * tiny.heads);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(entropy_guided)

// With all weights 0 a query attends uniformly: the entropy of query i is ln i, in every head of every layer.
BOOST_AUTO_TEST_CASE(penalty_of_uniform_heads) {
  const test::RandomBatch random({3, tiny.context}, tiny.vocab_size, test::seed());
  Model model(3);
  auto& table = model.parameters().all().front();
  const std::vector<float> zeros(static_cast<std::size_t>(table.size()));
  model.parameters().write(model.device(), table, zeros.data());
  double sum = 0;
  const double most = std::log(9.0), threshold = 0, margin = 0.25 * most;
  for (int i = 1; i <= 9; ++i) {
    const double deviation = std::log(static_cast<double>(i)) - threshold;
    if (std::abs(deviation) > margin) sum += deviation * deviation;
  }
  model.objective().options() = {.coefficient = 1e-3, .margin = 0.25};
  const double loss = model.forward_backward(random.batch(), {.gradient_scale = 0.25, .observe = false});
  BOOST_TEST(model.penalty() == 1e-3 * 3 * sum, boost::test_tools::tolerance(1e-5));
  // The loss is only the cross-entropy, as without the penalty.
  BOOST_TEST(loss == std::log(37.0), boost::test_tools::tolerance(1e-5));
  BOOST_TEST(std::isnan(model.observer().head_entropy(0, 0)));  // nobody asked to observe
  model.objective().options().sums_rows = false;
  model.forward_backward(random.batch());
  BOOST_TEST(model.penalty() == 1e-3 * sum / 9, boost::test_tools::tolerance(1e-5));
  BOOST_TEST(model.observer().head_entropy(0, 0) > 0);
}

BOOST_AUTO_TEST_CASE(training_moves_heads_and_thresholds_together) {
  LNFREE_LOG_SEED();
  const test::RandomBatch random({3, tiny.context}, tiny.vocab_size, test::seed());
  double deviation[2];
  for (const bool strong : {false, true}) {
    Model model(3);
    model.initialize(4);
    model.objective().options() = {.coefficient = strong ? 1.0 : 0.0, .margin = 0.05, .sums_rows = false};
    AdamW optimizer(model, {.weight_decay = 0});
    for (int step = 0; step < 120; ++step) {
      model.observer().reset();
      model.forward_backward(random.batch());
      optimizer.step(1e-2);
    }
    deviation[strong] = mean_deviation(model);
  }
  BOOST_TEST(deviation[true] < 0.3 * deviation[false], deviation[true] << " against " << deviation[false]);
}

BOOST_AUTO_TEST_SUITE_END()
