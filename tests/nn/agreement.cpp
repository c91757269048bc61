#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <boost/test/unit_test.hpp>

#ifdef LNFREE_TEST_CUDA
#include <lnfree/backend/cuda/cuda.hpp>
#endif
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

constexpr DecoderConfig parallel_rotary = [] {
  DecoderConfig config = untied_all_biases;
  config.rotary_dims = 4;
  config.parallel_residual = true;
  return config;
}();

using Tensors = std::vector<std::pair<std::string, std::vector<double>>>;

/// What a model does from its seed on: its weights, the loss and gradients of a batch, the entropies seen
/// there, and the losses and gradient norms of ten steps of training.
struct Run {
  Tensors weights, gradients;
  double loss;
  std::vector<std::vector<double>> entropies;
  std::int64_t nonfinite_rows;
  std::vector<double> losses, norms;
};

template <class Model>
Run run(const test::RandomBatch& random) {
  Run run;
  Model model(random.shape.batch);
  if constexpr (EntropyRegularizing<typename Model::Observer>) model.observer().options().coefficient = 1e-2;
  auto& parameters = model.parameters();
  const auto read = [&](const auto* array) {
    Tensors tensors;
    for (const auto& p : parameters.all()) {
      const auto values = parameters.read(model.device(), p, array);
      tensors.emplace_back(p.name, std::vector<double>(values.begin(), values.end()));
    }
    return tensors;
  };
  model.initialize(5);
  run.weights = read(parameters.masters());
  run.loss = model.forward_backward(random.batch(), {.gradient_scale = 0.5, .dropout = {0.1, 7, 1}});
  run.gradients = read(parameters.gradients());
  run.entropies = model.observer().head_entropy();
  run.nonfinite_rows = model.observer().nonfinite_rows();

  parameters.zero_gradients(model.device());
  AdamW optimizer(model);
  const WarmupLinearSchedule schedule{.peak = 1e-2, .warmup_ratio = 0.2, .steps = 10};
  for (int step = 0; step < 10; ++step) {
    const PassOptions pass{.dropout = {0.1, 7, static_cast<std::uint64_t>(step)}};
    run.losses.push_back(model.forward_backward(random.batch(), pass));
    run.norms.push_back(optimizer.step(schedule(step)));
  }
  return run;
}

bool close(double a, double b, double tolerance) {
  return std::abs(a - b) <= tolerance * std::abs(b);
}

double distance(const std::vector<double>& a, const std::vector<double>& b) {
  double difference = 0, norm = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    norm += b[i] * b[i];
  }
  return std::sqrt(norm == 0 ? difference : difference / norm);
}

void compare(const Run& device, const Run& exact) {
  BOOST_REQUIRE_EQUAL(device.weights.size(), exact.weights.size());
  for (std::size_t p = 0; p < exact.weights.size(); ++p) {
    const auto& [name, weights] = exact.weights[p];
    BOOST_TEST(device.weights[p].first == name);
    const std::vector<float> rounded(weights.begin(), weights.end());
    BOOST_TEST((device.weights[p].second == std::vector<double>(rounded.begin(), rounded.end())), name);
    const double error = distance(device.gradients[p].second, exact.gradients[p].second);
    BOOST_TEST(error < 1e-4, name << ": gradient off by " << error);
  }
  BOOST_TEST(close(device.loss, exact.loss, 1e-5), "loss " << device.loss << ", not " << exact.loss);
  for (std::size_t l = 0; l < exact.entropies.size(); ++l) {
    for (std::size_t h = 0; h < exact.entropies[l].size(); ++h) {
      const double ours = device.entropies[l][h], expected = exact.entropies[l][h];
      BOOST_TEST(std::abs(ours - expected) < 1e-5, "entropy " << ours << ", not " << expected);
    }
  }
  BOOST_TEST(device.nonfinite_rows == 0);
  for (std::size_t step = 0; step < exact.losses.size(); ++step) {
    BOOST_TEST(close(device.losses[step], exact.losses[step], 1e-4),
               "step " << step << ": loss " << device.losses[step] << ", not " << exact.losses[step]);
    BOOST_TEST(close(device.norms[step], exact.norms[step], 1e-3),
               "step " << step << ": gradient norm " << device.norms[step] << ", not " << exact.norms[step]);
  }
  BOOST_TEST(device.losses.back() < device.losses.front());
}

/// The device held against the oracle.
#ifdef LNFREE_TEST_CUDA
using Device = CudaFp32;
#else
using Device = Cpu;
#endif

/// A model on the device against the same one in double.
template <DecoderConfig Config, class N, class A, class O = EntropyObserver>
void check(BatchShape shape) {
  LNFREE_LOG_SEED();
  const test::RandomBatch random(shape, Config.vocab_size, test::seed());
  compare(run<Decoder<Config, N, A, Device, O>>(random),
          run<Decoder<Config, N, A, Reference<double>, O>>(random));
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
