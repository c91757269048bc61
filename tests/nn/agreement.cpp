#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <lnfree/device/profiled.hpp>
#include <lnfree/model.hpp>

#include "nn/training_run.hpp"
#include "support/device.hpp"
#ifdef LNFREE_TEST_CUDA
#include "support/eight_bits.hpp"
#endif
#include "support/layouts.hpp"
#include "support/objectives.hpp"
#include "support/policies.hpp"
#include "support/random_batch.hpp"
#include "support/reference.hpp"
#include "support/seed.hpp"

using namespace lnfree;

namespace {

/// Sizes that fill vectors, in addition to the odd ones of tiny.
constexpr DecoderConfig small{
    .layers = 3, .heads = 4, .width = 64, .ffn_width = 100, .context = 45, .vocab_size = 300};

/// Below this, the gradient of a single number is a sum of terms of both signs that nearly cancel, and float
/// rounding dominates.
constexpr double least_gradient = 1e-3;
bool cancels(const test::Tensors& gradients) {
  return std::any_of(gradients.begin(), gradients.end(), [](const auto& tensor) {
    return tensor.second.size() == 1 && std::abs(tensor.second[0]) < least_gradient;
  });
}

/// A model on the device against the same one in double.
template <DecoderConfig Config, class N, class A, class O = EntropyObserver, class D = test::TestDevice,
          class L = AsConfigured, template <class> class Aim = CrossEntropy>
void check_agreement(BatchShape shape, const test::TrainingBounds& bounds = {}) {
  LNFREE_LOG_SEED();
  for (std::uint64_t seed = test::seed();; ++seed) {
    const test::RandomBatch random(shape, Config.vocab_size, seed);
    const auto exact = test::training_run<Decoder<Config, N, A, Reference<double>, O, L, Aim>>(random);
    if (cancels(exact.gradients)) continue;
    test::compare(test::training_run<Decoder<Config, N, A, D, O, L, Aim>>(random), exact, bounds);
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
  check_agreement<tiny, Identity, GELU, EntropyObserver, test::TestDevice, PreNorm, EntropyGuided>({3, 9});
}

BOOST_AUTO_TEST_CASE(norms_on_their_way_out) {
  using Half = test::HalfOpen<Staged, 3>;  // which has all that Tapered has
  check_agreement<tiny, Half, GELU, EntropyObserver, test::TestDevice, PreNorm, SteadyScale>({3, 9});
  check_agreement<test::parallel_rotary, Half, ReLU, EntropyObserver, test::TestDevice, Parallel,
                  SteadyScale>({2, 7});
}

BOOST_AUTO_TEST_CASE(layouts_and_objectives) {
  using D = test::TestDevice;
  check_agreement<tiny, LayerNorm, GELU, EntropyObserver, D, PostNorm, test::PenalizedHidden>({3, 9});
#if !LNFREE_SANITIZE  // as in gradients.cpp
  check_agreement<tiny, test::BentNorm, GELU, EntropyObserver, D, Sandwich, test::PenalizedStream>({3, 9});
  check_agreement<tiny, Identity, ReLU, EntropyObserver, D, Parallel, test::HalvedLoss>({3, 9});
#endif
}

BOOST_AUTO_TEST_CASE(other_sizes) {
  check_agreement<small, LayerNorm, GELU>({3, 45});
  check_agreement<small, Identity, ReLU>({1, 33});
  check_agreement<tiny, LayerNorm, ReLU>({1, 1});
}

#ifdef LNFREE_TEST_CUDA
/// Sizes whose rows are whole packs, for which biases and ReLU are fused into products.
constexpr DecoderConfig even = [] {
  DecoderConfig config{
      .layers = 2, .heads = 2, .width = 32, .ffn_width = 64, .context = 16, .vocab_size = 80};
  config.biases = Biases::all;
  return config;
}();

constexpr DecoderConfig rotary = [] {
  DecoderConfig config = even;
  config.rotary_dims = 8;
  return config;
}();

// Training diverges after a gradient from the other side of ReLU's kink.
BOOST_AUTO_TEST_CASE(in_bf16) {
  constexpr double anything = 1;
  check_agreement<even, LayerNorm, GELU, EntropyObserver, Cuda>(
      {2, 16}, {.loss = 2e-3, .gradient = 1e-1, .entropy = 1e-2, .trained_loss = 1e-2, .norm = 5e-2});
  check_agreement<even, Identity, ReLU, EntropyObserver, Cuda>(
      {2, 16}, {.loss = 2e-3, .gradient = 3e-1, .entropy = 1e-2, .trained_loss = anything, .norm = anything});
}

/// The losses of a model on a device that rounds and on one that does not differ.
template <class D>
void check_that_it_rounds() {
  LNFREE_LOG_SEED();
  const test::RandomBatch random({2, 16}, even.vocab_size, test::seed());
  const auto loss = [&]<class Device>(Device) {
    Decoder<even, LayerNorm, GELU, Device, EntropyObserver> model(2);
    model.initialize(5);
    return model.loss(random.batch());
  };
  BOOST_TEST(loss(D()) != loss(Cuda()), "nothing was rounded");
}

/// A pass is a function of the weights and the batch, whatever passes there were before.
template <class D>
void check_that_it_resumes() {
  LNFREE_LOG_SEED();
  using Model = Decoder<even, LayerNorm, GELU, D, EntropyObserver>;
  const test::RandomBatch random({2, 16}, even.vocab_size, test::seed()), other({1, 16}, even.vocab_size, 7);
  const auto train = [&](Model& model, AdamW<Model>& optimizer, int steps) {
    std::vector<double> trace;
    for (int step = 0; step < steps; ++step) {
      trace.push_back(model.forward_backward(random.batch()));
      trace.push_back(optimizer.step(1e-2));
    }
    return trace;
  };
  Model first(2), second(2);
  AdamW<Model> optimizer(first), resumed(second);
  first.initialize(5);
  train(first, optimizer, 3);
  first.loss(other.batch());
  for (std::size_t p = 0; p < first.parameters().all().size(); ++p) {
    const auto values = first.parameters().read(first.device(), first.parameters().all()[p]);
    second.parameters().write(second.device(), second.parameters().all()[p], values.data());
  }
  std::vector<std::vector<float>> state;
  optimizer.for_each_state([&](const std::string&, const auto& parameter, const float* values) {
    state.push_back(optimizer.read_state(parameter, values));
  });
  std::size_t at = 0;
  resumed.for_each_state([&](const std::string&, const auto& parameter, float* values) {
    resumed.write_state(parameter, values, state[at++].data());
  });
  resumed.set_updates(optimizer.updates());
  BOOST_TEST(train(second, resumed, 2) == train(first, optimizer, 2), boost::test_tools::per_element());
}

// FP8 is off by up to 1/16 of a weight or an activation and 1/8 of a gradient, on average by 1/40 and 1/20,
// in each of up to eight products. Of 24 batches, gradients of single tensors were off by up to 0.25, losses
// by 0.002, by 0.016 after ten steps.
BOOST_AUTO_TEST_CASE(in_fp8, *test::needs_fp8) {
  constexpr test::TrainingBounds bounds{
      .loss = 1e-2, .gradient = 4e-1, .entropy = 1e-2, .trained_loss = 5e-2, .norm = 4e-1};
  check_agreement<even, LayerNorm, GELU, EntropyObserver, CudaFP8>({2, 16}, bounds);
  check_agreement<even, Identity, ReLU, EntropyObserver, CudaFP8>({2, 16}, bounds);
  check_agreement<even, Identity, ReLU, EntropyObserver, CudaFP8Head>({2, 16}, bounds);
  check_that_it_rounds<CudaFP8>();
}
BOOST_AUTO_TEST_CASE(resumed_in_fp8, *test::needs_fp8) {
  check_that_it_resumes<CudaFP8>();
}

// INT8 is off by a uniform error of up to 1/254 of a row's largest number, 1/440 on average. Of 64 normal
// numbers the largest is about 2.6 times the root mean square: that is 0.6 % of a factor, 0.8 % of a product,
// and 6 % if up to eight products are all off to the same side. The rest is bf16's.
BOOST_AUTO_TEST_CASE(in_int8, *test::needs_int8) {
  constexpr double anything = 1;
  check_agreement<even, LayerNorm, GELU, EntropyObserver, CudaInt8>(
      {2, 16}, {.loss = 4e-3, .gradient = 1.6e-1, .entropy = 1e-2, .trained_loss = 2e-2, .norm = 1.1e-1});
  check_agreement<even, Identity, ReLU, EntropyObserver, CudaInt8>(
      {2, 16},
      {.loss = 4e-3, .gradient = 3.6e-1, .entropy = 1e-2, .trained_loss = anything, .norm = anything});
  check_that_it_rounds<CudaInt8>();
}
BOOST_AUTO_TEST_CASE(resumed_in_int8, *test::needs_int8) {
  check_that_it_resumes<CudaInt8>();
}

/// The device `D`, to which no product is announced.
template <class D>
struct Unannounced : Profiled<D> {};
template <class D>
void expect_product(Unannounced<D>&, Matrix<const BFloat16>, Matrix<const BFloat16>) = delete;
static_assert(ExpectsProducts<CudaFP8> && ExpectsProducts<CudaInt8> &&
              !ExpectsProducts<Unannounced<CudaFP8>>);

/// Three steps of training have the same bits whether factors are rounded by the kernels that compute them or
/// not.
template <class N, class A, class D, class L = AsConfigured, DecoderConfig Config = even,
          template <class> class Aim = CrossEntropy>
void check_announcements() {
  LNFREE_LOG_SEED();
  const test::RandomBatch random({2, 16}, Config.vocab_size, test::seed());
  const auto trace = [&]<class Device>(Device) {
    using Model = Decoder<Config, N, A, Device, EntropyObserver, L, Aim>;
    Model model(2);
    AdamW<Model> optimizer(model);
    model.initialize(5);
    std::vector<double> numbers;
    for (int step = 0; step < 3; ++step) {
      numbers.push_back(model.forward_backward(random.batch()));
      numbers.push_back(optimizer.step(1e-2));
    }
    return numbers;
  };
  BOOST_TEST(trace(D()) == trace(Unannounced<D>()), boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(announced_in_fp8, *test::needs_fp8) {
  check_announcements<LayerNorm, GELU, CudaFP8>();
  check_announcements<LayerNorm, GELU, CudaFP8, PostNorm>();
  check_announcements<LayerNorm, GELU, CudaFP8, Parallel>();
  check_announcements<LayerNorm, GELU, CudaFP8, Sandwich>();
  check_announcements<LayerNorm, GELU, CudaFP8, AsConfigured, rotary>();
  check_announcements<test::HalfOpen<Staged, 3>, GELU, CudaFP8>();
  check_announcements<LayerNorm, GELU, CudaFP8, AsConfigured, even, test::PenalizedEverywhere>();
}
BOOST_AUTO_TEST_CASE(announced_in_int8, *test::needs_int8) {
  check_announcements<LayerNorm, GELU, CudaInt8>();
  check_announcements<Identity, ReLU, CudaInt8>();
}

#ifndef __CUDACC__
/// The kernels of a training pass that only round x or d_y.
template <class N, class A, class D>
int separate_roundings() {
  const test::RandomBatch random({2, 16}, even.vocab_size, test::seed());
  Decoder<even, N, A, D, EntropyObserver> model(2);
  model.initialize(5);
  model.forward_backward(random.batch());  // also rounds the weights
  const int before = test::separate_roundings<D>();
  model.forward_backward(random.batch());
  return test::separate_roundings<D>() - before;
}

// Each of the two layers has eight factors.
BOOST_AUTO_TEST_CASE(factors_that_are_rounded_separately) {
  BOOST_TEST((separate_roundings<LayerNorm, GELU, CudaFP8>()) == 0);
  // Attention's results: two in each layer.
  BOOST_TEST((separate_roundings<LayerNorm, GELU, CudaInt8>()) == 2 * 2);
  // The results of products: five in each layer, but the last one's gradient comes from the final norm.
  BOOST_TEST((separate_roundings<Identity, ReLU, CudaFP8>()) == 2 * 5 - 1);
  // What logits are computed from, and their gradient.
  BOOST_TEST((separate_roundings<Identity, ReLU, CudaFP8Head>()) == 2 * 5 - 1 + 2);
  BOOST_TEST((separate_roundings<Identity, ReLU, CudaInt8>()) == 2 * 7 - 1);
}
#endif

/// The loss on the device of a model whose biases are drawn with this deviation.
template <class Device>
double loss_with_biases(const test::RandomBatch& random, std::uint64_t seed, double std) {
  using Model = Decoder<even, Identity, ReLU, Device, NoObserver>;
  Model model(random.shape.batch);
  model.initialize(5);
  for (auto& parameter : model.parameters().all()) {
    if (parameter.kind != ParameterKind::bias) continue;
    std::vector<float> drawn(static_cast<std::size_t>(parameter.trainable));
    fill_normal(drawn.data(), parameter.trainable, std, Philox(seed, stream_of(parameter.name)));
    const std::vector<typename Device::Accumulator> biases(drawn.begin(), drawn.end());
    model.parameters().write(model.device(), parameter, 0, parameter.trainable, biases.data());
  }
  return model.loss(random.batch());
}

// Biases start at zero, and after a few steps are too small to show in bf16, so they are drawn large enough
// to make a difference.
BOOST_AUTO_TEST_CASE(biases_in_bf16) {
  LNFREE_LOG_SEED();
  constexpr double deviation = 2, least_difference = 0.1;
  for (std::uint64_t seed = test::seed();; ++seed) {
    const test::RandomBatch random({2, 16}, even.vocab_size, seed);
    const double exact = loss_with_biases<Reference<double>>(random, seed, deviation),
                 without = loss_with_biases<Reference<double>>(random, seed, 0);
    if (std::abs(exact - without) < least_difference) continue;
    const double ours = loss_with_biases<Cuda>(random, seed, deviation);
    BOOST_TEST(std::abs(ours - exact) < 0.2 * least_difference,
               ours << ", not " << exact << "; without biases " << without);
    return;
  }
}
#endif

BOOST_AUTO_TEST_SUITE_END()
