#include <boost/test/unit_test.hpp>

#include <lnfree/model.hpp>

#include "nn/training_run.hpp"
#include "support/device.hpp"
#include "support/layouts.hpp"
#include "support/policies.hpp"
#include "support/random_batch.hpp"
#include "support/seed.hpp"

using namespace lnfree;

namespace {

/// Sizes that fill vectors, beside the odd ones of tiny.
constexpr DecoderConfig small{
    .layers = 3, .heads = 4, .width = 64, .ffn_width = 100, .context = 45, .vocab_size = 300};

/// A model on the device against the same one in double.
template <DecoderConfig Config, class N, class A, class O = EntropyObserver>
void check_agreement(BatchShape shape) {
  LNFREE_LOG_SEED();
  const test::RandomBatch random(shape, Config.vocab_size, test::seed());
  test::compare(test::training_run<Decoder<Config, N, A, test::TestDevice, O>>(random),
                test::training_run<Decoder<Config, N, A, Reference<double>, O>>(random));
}

}  // namespace

BOOST_AUTO_TEST_SUITE(device_against_the_oracle)

BOOST_AUTO_TEST_CASE(the_paper_s_configurations) {
  check_agreement<tiny, LayerNorm, GELU>({3, 9});
  check_agreement<tiny, LayerNorm, ReLU>({3, 9});
  check_agreement<tiny, Identity, GELU>({3, 9});
  check_agreement<tiny, Identity, ReLU>({3, 9});
  check_agreement<tiny, Identity, LeakyLearnable<Scope::per_layer>>({3, 9});
  check_agreement<tiny, Identity, LeakyLearnable<Scope::global>>({3, 9});
}

BOOST_AUTO_TEST_CASE(other_layouts_and_policies) {
  check_agreement<clean(tiny), Identity, ReLU>({3, 9});
  check_agreement<test::untied_all_biases, LayerNorm, GELUTanh>({3, 9});
  check_agreement<clean(tiny), RMSNorm, test::LearnableSwish>({3, 9});
}

BOOST_AUTO_TEST_CASE(pythia_s_layout) {
  check_agreement<test::parallel_rotary, LayerNorm, GELU>({3, 9});
  check_agreement<test::parallel_rotary, Identity, ReLU>({2, 7});
}

BOOST_AUTO_TEST_CASE(past_the_paper) {
  check_agreement<tiny, DynamicTanh, SiLU>({3, 9});
  check_agreement<tiny, DynamicErf, GELU>({3, 9});
  check_agreement<tiny, Identity, SquaredReLU>({3, 9});
  check_agreement<tiny, Identity, Layerwise<ReLU, 1, GELU>>({3, 9});
  check_agreement<tiny, Identity, GELU, EntropyRegularizer>({3, 9});
}

BOOST_AUTO_TEST_CASE(other_sizes) {
  check_agreement<small, LayerNorm, GELU>({3, 45});
  check_agreement<small, Identity, ReLU>({1, 33});
  check_agreement<tiny, LayerNorm, ReLU>({1, 1});
}

BOOST_AUTO_TEST_SUITE_END()
