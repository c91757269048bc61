#include <boost/test/unit_test.hpp>

#include <lnfree/model.hpp>

#include "nn/training_run.hpp"
#include "support/device.hpp"
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

constexpr DecoderConfig parallel_rotary = [] {
  DecoderConfig config = untied_all_biases;
  config.rotary_dims = 4;
  config.parallel_residual = true;
  return config;
}();

/// A model on the device against the same one in double.
template <DecoderConfig Config, class N, class A, class O = EntropyObserver>
void check(BatchShape shape) {
  LNFREE_LOG_SEED();
  const test::RandomBatch random(shape, Config.vocab_size, test::seed());
  test::compare(test::training_run<Decoder<Config, N, A, test::TestDevice, O>>(random),
                test::training_run<Decoder<Config, N, A, Reference<double>, O>>(random));
}

}  // namespace

BOOST_AUTO_TEST_SUITE(device_against_the_oracle)

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
  check<clean(tiny), RMSNorm, test::LearnableSwish>({3, 9});
}

BOOST_AUTO_TEST_CASE(pythia_s_layout) {
  check<parallel_rotary, LayerNorm, GELU>({3, 9});
  check<parallel_rotary, Identity, ReLU>({2, 7});
}

BOOST_AUTO_TEST_CASE(past_the_paper) {
  check<tiny, DynamicTanh, SiLU>({3, 9});
  check<tiny, DynamicErf, GELU>({3, 9});
  check<tiny, Identity, SquaredReLU>({3, 9});
  check<tiny, Identity, Layerwise<ReLU, 1, GELU>>({3, 9});
  check<tiny, Identity, GELU, EntropyRegularizer>({3, 9});
}

BOOST_AUTO_TEST_CASE(other_sizes) {
  check<small, LayerNorm, GELU>({3, 45});
  check<small, Identity, ReLU>({1, 33});
  check<tiny, LayerNorm, ReLU>({1, 1});
}

BOOST_AUTO_TEST_SUITE_END()
