#include <algorithm>
#include <cmath>
#include <cstdint>

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

/// Whether the gradient of a single number, a sum of terms of both signs, comes to nearly nothing: what float
/// leaves of that says nothing.
bool cancels(const test::Tensors& gradients) {
  constexpr double least = 1e-3;
  return std::any_of(gradients.begin(), gradients.end(), [](const auto& tensor) {
    return tensor.second.size() == 1 && std::abs(tensor.second[0]) < least;
  });
}

/// A model on the device against the same one in double.
template <DecoderConfig Config, class N, class A, class O = EntropyObserver>
void check_agreement(BatchShape shape) {
  LNFREE_LOG_SEED();
  for (std::uint64_t seed = test::seed();; ++seed) {
    const test::RandomBatch random(shape, Config.vocab_size, seed);
    const auto exact = test::training_run<Decoder<Config, N, A, Reference<double>, O>>(random);
    if (cancels(exact.gradients)) continue;
    test::compare(test::training_run<Decoder<Config, N, A, test::TestDevice, O>>(random), exact);
    return;
  }
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
