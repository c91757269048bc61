#include <array>
#include <bit>
#include <cstdint>

#include <lnfree/core/bfloat16.hpp>
#include <lnfree/model.hpp>

#include "device/workbench.hpp"

using namespace lnfree;
using namespace lnfree::test;

BOOST_AUTO_TEST_SUITE(device_bf16)

BOOST_AUTO_TEST_CASE(numbers_round_to_the_nearest_even) {
  const auto rounded = [](float x) { return static_cast<float>(BFloat16(x)); };
  BOOST_TEST(rounded(1.0f) == 1.0f);
  BOOST_TEST(rounded(1.0f + 0x1p-8f) == 1.0f);            // half way: to the even one below
  BOOST_TEST(rounded(1.0f + 0x3p-8f) == 1.0f + 0x1p-6f);  // half way: to the even one above
  BOOST_TEST(rounded(1.0f + 0x1.02p-8f) == 1.0f + 0x1p-7f);
  BOOST_TEST(rounded(-0.0f) == 0.0f);
  BOOST_TEST(std::signbit(rounded(-0.0f)));
  constexpr float infinity = std::numeric_limits<float>::infinity();
  BOOST_TEST(rounded(infinity) == infinity);
  BOOST_TEST(rounded(std::numeric_limits<float>::max()) == infinity);
  BOOST_TEST(std::isnan(rounded(std::bit_cast<float>(0x7fffffffu))));  // would round to -0
  BOOST_TEST(std::isnan(rounded(std::bit_cast<float>(0x7f800001u))));  // would round to infinity
  const Philox random(seed(), 1);
  for (std::uint64_t i = 0; i < 10000; ++i) {
    const auto x = std::bit_cast<float>(random(i)[0]);
    if (!std::isfinite(x) || std::abs(x) < 0x1p-120f || std::abs(x) > 0x1p120f) continue;
    BOOST_REQUIRE(std::abs(rounded(x) - x) <= 0x1p-8f * std::abs(x) * 0.5f + 0x1p-9f * std::abs(x));
  }
}

// Given the stored inputs, the entropies are as exact as those in float.
BOOST_AUTO_TEST_CASE(entropies_are_computed_in_float) {
  LNFREE_LOG_SEED();
  const auto entropies = [](auto& bench) {
    using Bench = std::remove_reference_t<decltype(bench)>;
    const AttentionShape shape{2, 45, 3, 16};
    auto qkv = bench.scalars("qkv", 90, 3 * 48, 1.5);
    auto y = bench.poisoned_scalars(90, 48);
    auto log_sum = bench.poisoned_accumulators(1, 3 * 90), rows = bench.poisoned_accumulators(1, 3 * 90);
    auto workspace = bench.poisoned_accumulators(1, attention_workspace(bench.device(), shape));
    attention_forward(bench.device(), shape, qkv, y, log_sum.data, workspace.data,
                      RowEntropies<typename Bench::Accumulator>{rows.data});
    bench.result("entropies", rows);
  };
  const auto exact = run<Reference<double>>(entropies), here = run<CpuBF16>(entropies);
  BOOST_TEST(distance(here[0].values, exact[0].values) < 1e-5);
}

inline constexpr DecoderConfig narrow{
    .layers = 2, .heads = 2, .width = 32, .ffn_width = 128, .context = 32, .vocab_size = 64};

/// The mean losses of the last tenth of `steps` steps on sequences with predictable next tokens.
template <class Device>
double loss_after_training(int steps, std::vector<double>* entropies) {
  Decoder<narrow, LayerNorm, GELU, Device, EntropyObserver> model(8);
  model.initialize(3);
  AdamW optimizer(model, {});
  const Philox random(seed(), stream_of("sequences"));
  std::vector<std::int32_t> tokens(8 * 32), targets(8 * 32);
  double sum = 0;
  for (int step = 0; step < steps; ++step) {
    for (int b = 0; b < 8; ++b) {
      auto token = static_cast<std::int32_t>(random(static_cast<std::uint64_t>(8 * step + b))[0] % 64);
      for (int t = 0; t < 32; ++t) {
        tokens[32 * b + t] = token;
        token = (5 * token + 7) % 64;
        targets[32 * b + t] = token;
      }
    }
    const double loss = model.forward_backward({{8, 32}, tokens, targets});
    optimizer.step(1e-3);
    if (step >= steps - steps / 10) sum += loss / (steps / 10);
  }
  *entropies = model.observer().head_entropy().front();
  return sum;
}

BOOST_AUTO_TEST_CASE(training_follows_float) {
  LNFREE_LOG_SEED();
  std::vector<double> entropies, entropies_in_float;
  const double loss = loss_after_training<CpuBF16>(150, &entropies);
  const double in_float = loss_after_training<Cpu>(150, &entropies_in_float);
  BOOST_TEST(in_float < 3.5);  // of ln 64 = 4.16 at the start: it learned something
  BOOST_TEST(std::abs(loss / in_float - 1) < 0.01, loss << " in bf16, " << in_float << " in float");
  for (std::size_t h = 0; h < entropies.size(); ++h) {
    BOOST_TEST(std::abs(entropies[h] / entropies_in_float[h] - 1) < 0.05);
  }
}

BOOST_AUTO_TEST_SUITE_END()
