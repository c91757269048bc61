/// gpu_training_step_<context> CONFIGURATION TOKENS SECONDS
///
/// Training steps of GPT-2 on a GPU in bf16, for at least SECONDS, each of 65,536 tokens in passes of TOKENS,
/// alternately with and without the entropies of all heads. Writes JSON: the medians, the memory, and the
/// rate of a product of two large matrices before and after the steps.
#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include <lnfree/core/memory.hpp>
#include <lnfree/model.hpp>

#include "median.hpp"
#include "random_windows.hpp"

using namespace lnfree;

namespace {

constexpr DecoderConfig shape = [] {
  DecoderConfig config = gpt2_small;
  config.context = LNFREE_BENCHMARK_CONTEXT;
  return config;
}();
constexpr int tokens_per_step = 65536;

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// Random numbers in bf16, some thousands of them repeated: a product of zeros would take less power and be
/// faster.
class RandomMatrix {
 public:
  RandomMatrix(Cuda& device, Index size) : memory_(device, size * size * sizeof(BFloat16)), size_(size) {
    constexpr Index drawn = Index{1} << 16;
    std::vector<float> numbers(drawn);
    fill_normal(numbers.data(), drawn, 1.0, Philox(1, stream_of("matrix")));
    const std::vector<BFloat16> host(numbers.begin(), numbers.end());
    for (Index at = 0; at < size * size; at += drawn) {
      copy_to_device(device, matrix().data + at, host.data(), drawn * sizeof(BFloat16));
    }
  }
  Matrix<BFloat16> matrix() const { return {static_cast<BFloat16*>(memory_.data()), size_, size_}; }

 private:
  Buffer<Cuda> memory_;
  Index size_;
};

/// TFLOP/s of a product of two matrices of 8192 x 8192 in bf16.
double product_rate() {
  constexpr Index size = 8192;
  constexpr int products = 30;
  Cuda device;
  const RandomMatrix a(device, size), b(device, size), c(device, size);
  const auto multiply = [&](int times) {
    for (int i = 0; i < times; ++i) gemm(device, a.matrix(), b.matrix(), Output<BFloat16>(c.matrix()));
    synchronize(device);
  };
  multiply(10);
  const double start = now();
  multiply(products);
  return 2.0 * size * size * size * products / (now() - start) * 1e-12;
}

/// Operations per token: six for each weight in a product, and only the causal half of attention.
double flops_per_token() {
  const double width = shape.width, layers = shape.layers;
  return 3 * (2 * layers * (4 * width + 2 * shape.ffn_width) * width + 2 * shape.vocab_size * width +
              2 * layers * (shape.context + 1) * width);
}

template <class Norm, class Activation>
nlohmann::ordered_json measure(int passes, double seconds) {
  using Model = Decoder<shape, Norm, Activation, Cuda, EntropyObserver>;
  const int windows = tokens_per_step / passes / shape.context;
  const double rate_before = product_rate();
  Cuda device;
  const std::size_t free_before = free_bytes(device);
  Model model(windows, Purpose::training, device);
  model.initialize(1);
  AdamW optimizer(model);
  benchmarks::RandomWindows random({windows, shape.context}, shape.vocab_size);
  const auto step = [&](bool observe) {
    double time = 0;
    for (int pass = 0; pass < passes; ++pass) {
      const Batch batch = random.draw();
      const double start = now();
      model.forward_backward(batch, {.gradient_scale = 1.0 / passes, .observe = observe});
      time += now() - start;
    }
    const double start = now();
    optimizer.step(1e-5);
    synchronize(device);
    return time + now() - start;
  };
  for (const bool observe : {false, true, false, true}) step(observe);
  const double memory = 1e-9 * static_cast<double>(free_before - free_bytes(device));

  std::vector<double> unobserved, observed;
  const double start = now();
  while (unobserved.size() < 5 || now() - start < seconds) {
    unobserved.push_back(step(false));
    observed.push_back(step(true));
  }
  const double rate = std::max(rate_before, product_rate());
  const MemoryPlan plan = model.memory();
  const auto speed = [&](const std::vector<double>& times) {
    return tokens_per_step / benchmarks::median(times);
  };
  const auto share = [&](double speed) { return speed * flops_per_token() * 1e-12 / rate; };
  return {{"gpu", device_name(device)},
          {"context", shape.context},
          {"batch", windows},
          {"passes", passes},
          {"steps", observed.size()},
          {"parameters", model.parameters().trainable()},
          {"tokens_per_second", speed(unobserved)},
          {"tokens_per_second_observed", speed(observed)},
          {"entropy_cost", benchmarks::median(observed) / benchmarks::median(unobserved) - 1},
          {"product_tflops", rate},
          {"share", share(speed(unobserved))},
          {"share_observed", share(speed(observed))},
          {"peak_memory_gb", memory},
          {"planned_memory_gb", 1e-9 * static_cast<double>(plan.total() + AdamW<Model>::bytes(plan))}};
}

}  // namespace

int main(int argc, char** argv) try {
  char *end_of_tokens = nullptr, *end = nullptr;
  const long tokens = argc == 4 ? std::strtol(argv[2], &end_of_tokens, 10) : 0;
  const double seconds = argc == 4 ? std::strtod(argv[3], &end) : 0;
  if (argc != 4 || *end_of_tokens != '\0' || *end != '\0') {
    throw Error("usage: gpu_training_step_<context> CONFIGURATION TOKENS SECONDS");
  }
  if (tokens < shape.context || tokens % shape.context != 0 || tokens_per_step % tokens != 0) {
    throw Error("a pass of " + std::to_string(tokens) + " tokens does not divide a step of " +
                std::to_string(tokens_per_step) + " into windows of " + std::to_string(shape.context));
  }
  const auto passes = static_cast<int>(tokens_per_step / tokens);
  const std::string configuration = argv[1];
  nlohmann::ordered_json result;
  if (configuration == "sm_ln_g") {
    result = measure<LayerNorm, GELU>(passes, seconds);
  } else if (configuration == "sm_ln_r") {
    result = measure<LayerNorm, ReLU>(passes, seconds);
  } else if (configuration == "sm_g") {
    result = measure<Identity, GELU>(passes, seconds);
  } else if (configuration == "sm_r") {
    result = measure<Identity, ReLU>(passes, seconds);
  } else {
    throw Error("there is no configuration " + configuration +
                ": sm_ln_g, sm_ln_r, sm_g and sm_r are measured");
  }
  result["configuration"] = configuration;
  std::printf("%s\n", result.dump(2).c_str());
} catch (const NoDevice& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 4;
} catch (const std::exception& error) {
  std::fprintf(stderr, "gpu_training_step: %s\n", error.what());
  return 1;
}
