#include <cmath>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <lnfree/model.hpp>

#include "support/policies.hpp"
#include "support/random_batch.hpp"
#include "support/seed.hpp"

using namespace lnfree;

namespace {

/// Sizes that fill vectors, beside the odd ones of tiny.
constexpr DecoderConfig small{
    .layers = 3, .heads = 4, .width = 64, .ffn_width = 100, .context = 45, .vocab_size = 300};

constexpr DecoderConfig untied_all_biases = [] {
  DecoderConfig config = tiny;
  config.biases = Biases::all;
  config.tied_output = false;
  return config;
}();

double distance(const std::vector<float>& a, const std::vector<double>& b) {
  double difference = 0, norm = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    norm += b[i] * b[i];
  }
  return std::sqrt(norm == 0 ? difference : difference / norm);
}

/// A model on the Cpu against the same one in double: weights, loss, gradients, entropies, and ten steps of
/// training with dropout.
template <DecoderConfig Config, class N, class A>
void check(BatchShape shape) {
  LNFREE_LOG_SEED();
  Decoder<Config, N, A, Cpu, EntropyObserver> model(shape.batch);
  Decoder<Config, N, A, Reference<double>, EntropyObserver> reference(shape.batch);
  model.initialize(5);
  reference.initialize(5);
  for (std::size_t p = 0; p < model.parameters().all().size(); ++p) {
    const auto& ours = model.parameters().all()[p];
    const auto& theirs = reference.parameters().all()[p];
    BOOST_REQUIRE_EQUAL(ours.name, theirs.name);
    const auto values = reference.parameters().read(reference.device(), theirs);
    BOOST_TEST(
        (model.parameters().read(model.device(), ours) == std::vector<float>(values.begin(), values.end())));
  }

  const test::RandomBatch random(shape, Config.vocab_size, test::seed());
  const PassOptions options{.gradient_scale = 0.5, .dropout = {0.1, 7, 1}};
  const double loss = model.forward_backward(random.batch(), options);
  const double expected = reference.forward_backward(random.batch(), options);
  BOOST_TEST(loss == expected, boost::test_tools::tolerance(1e-5));
  for (std::size_t p = 0; p < model.parameters().all().size(); ++p) {
    const auto& name = model.parameters().all()[p].name;
    const auto gradient =
        model.parameters().read(model.device(), model.parameters().all()[p], model.parameters().gradients());
    const auto exact = reference.parameters().read(reference.device(), reference.parameters().all()[p],
                                                   reference.parameters().gradients());
    const double error = distance(gradient, exact);
    BOOST_TEST(error < 1e-4, name << ": off by " << error);
  }
  for (int l = 0; l < Config.layers; ++l) {
    for (int h = 0; h < Config.heads; ++h) {
      BOOST_TEST(std::abs(model.observer().head_entropy(l, h) - reference.observer().head_entropy(l, h)) <
                 1e-5);
    }
  }
  BOOST_TEST(model.observer().nonfinite_rows() == 0);

  model.parameters().zero_gradients(model.device());
  reference.parameters().zero_gradients(reference.device());
  AdamW optimizer(model);
  AdamW exact_optimizer(reference);
  const WarmupLinearSchedule schedule{.peak = 1e-2, .warmup_ratio = 0.2, .steps = 10};
  double first = 0, last = 0;
  for (int step = 0; step < 10; ++step) {
    const PassOptions pass{.dropout = {0.1, 7, static_cast<std::uint64_t>(step)}};
    last = model.forward_backward(random.batch(), pass);
    first = step == 0 ? last : first;
    const double exact = reference.forward_backward(random.batch(), pass);
    BOOST_TEST(last == exact, boost::test_tools::tolerance(1e-4));
    BOOST_TEST(optimizer.step(schedule(step)) == exact_optimizer.step(schedule(step)),
               boost::test_tools::tolerance(1e-3));
  }
  BOOST_TEST(last < first);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(cpu_against_the_oracle)

BOOST_AUTO_TEST_CASE(the_paper_s_configurations) {
  check<tiny, LayerNorm, GELU>({3, 9});
  check<tiny, LayerNorm, ReLU>({3, 9});
  check<tiny, Identity, GELU>({3, 9});
  check<tiny, Identity, ReLU>({3, 9});
  check<tiny, Identity, LeakyLearnable<Scope::per_layer>>({3, 9});
  check<tiny, Identity, LeakyLearnable<Scope::global>>({3, 9});
}

BOOST_AUTO_TEST_CASE(other_layouts_and_policies) {
  check<clean(tiny), Identity, ReLU>({3, 9});
  check<untied_all_biases, LayerNorm, GELUTanh>({3, 9});
  check<clean(tiny), test::RMSNorm, test::LearnableSwish>({3, 9});
}

BOOST_AUTO_TEST_CASE(other_sizes) {
  check<small, LayerNorm, GELU>({3, 45});
  check<small, Identity, ReLU>({1, 33});
  check<tiny, LayerNorm, ReLU>({1, 1});
}

BOOST_AUTO_TEST_SUITE_END()
