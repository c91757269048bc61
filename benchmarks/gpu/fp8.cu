/// gpu_fp8 STEPS SECONDS
///
/// Compares training in FP8 with training in bf16. Trains a model of GPT-2's size for STEPS steps in each on
/// the same sequences and compares the losses; then measures the speed of both for at least SECONDS at each
/// width. Writes two tables, and exits with status 1 if a loss in FP8 differs by more than 0.5 %.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include <lnfree/core/random.hpp>
#include <lnfree/device/cuda/fp8.hpp>
#include <lnfree/model.hpp>
#include <lnfree/nn/dynamic_decoder.hpp>
#include <lnfree/optim/schedule.hpp>

#include "median.hpp"
#include "random_windows.hpp"

using namespace lnfree;

namespace {

constexpr double largest_difference = 0.005;

template <class Device>
using Model = DynamicDecoder<Device>;

template <class Norm, class Activation, class Device>
Model<Device> model_of(const DecoderConfig& sizes, int windows) {
  return Model<Device>(sizes, parts_of<Norm, LayerNorm, Activation, PreNorm, Device>(), windows);
}

/// Random windows in which each token has four possible successors, drawn anew at each step.
class Sequences {
 public:
  Sequences(BatchShape shape, int vocab_size)
      : shape_(shape),
        vocab_size_(static_cast<std::uint32_t>(vocab_size)),
        tokens_(shape.rows()),
        targets_(shape.rows()) {}

  Batch draw() {
    for (Index at = 0; at < shape_.rows(); ++at) {
      const auto number = random_(drawn_++);
      const bool starts = at % shape_.length == 0;
      tokens_[at] = starts ? static_cast<std::int32_t>(number[1] % vocab_size_) : targets_[at - 1];
      const auto followers = followers_(static_cast<std::uint64_t>(tokens_[at]));
      targets_[at] = static_cast<std::int32_t>(followers[number[0] % 4] % vocab_size_);
    }
    return {shape_, tokens_, targets_};
  }

 private:
  BatchShape shape_;
  std::uint32_t vocab_size_;
  std::vector<std::int32_t> tokens_, targets_;
  Philox random_{1, stream_of("sequences")}, followers_{1, stream_of("followers")};
  std::uint64_t drawn_ = 0;
};

/// The mean loss of the last tenth of `steps` steps.
template <class Norm, class Activation, class Device>
double loss_after(int steps) {
  DecoderConfig sizes = gpt2_small;
  sizes.vocab_size = 8192;
  constexpr int windows = 32;
  auto model = model_of<Norm, Activation, Device>(sizes, windows);
  model.initialize(1);
  AdamW optimizer(model);
  Sequences sequences({windows, sizes.context}, sizes.vocab_size);
  const WarmupLinearSchedule schedule{.peak = 6e-4, .warmup_ratio = 0.1, .steps = steps};
  const int counted = std::max(1, steps / 10);
  double sum = 0;
  for (int step = 0; step < steps; ++step) {
    const double loss = model.forward_backward(sequences.draw());
    optimizer.step(schedule(step));
    if (step >= steps - counted) sum += loss;
  }
  return sum / counted;
}

/// Whether the losses are close enough.
template <class Norm, class Activation>
bool compare_losses(const char* name, int steps) {
  const double bf16 = loss_after<Norm, Activation, Cuda>(steps);
  const double fp8 = loss_after<Norm, Activation, CudaFP8>(steps);
  std::printf("| %s | %.4f | %.4f | %+.2f %% |\n", name, bf16, fp8, 100 * (fp8 / bf16 - 1));
  std::fflush(stdout);
  return std::abs(fp8 / bf16 - 1) <= largest_difference;
}

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// A model in training, and the tokens per second of its steps, a pass each.
template <class Norm, class Activation, class Device>
class Measured {
 public:
  Measured(const DecoderConfig& sizes, int windows)
      : model_(sizes, parts_of<Norm, LayerNorm, Activation, PreNorm, Device>(), windows),
        optimizer_(model_),
        random_({windows, sizes.context}, sizes.vocab_size) {
    model_.initialize(1);
    for (int step = 0; step < 3; ++step) take_step();  // products are planned, and the pass is recorded
  }

  void measure() {
    const double start = now();
    const Index tokens = take_step();
    speeds_.push_back(static_cast<double>(tokens) / (now() - start));
  }
  double speed() const { return benchmarks::median(speeds_); }

 private:
  Index take_step() {
    const Batch batch = random_.draw();
    model_.forward_backward(batch);
    optimizer_.step(1e-5);
    synchronize(model_.device());
    return batch.shape.rows();
  }

  Model<Device> model_;
  AdamW<Model<Device>> optimizer_;
  benchmarks::RandomWindows random_;
  std::vector<double> speeds_;
};

template <class Norm, class Activation>
void compare_speeds(const char* name, int width, double seconds) {
  DecoderConfig sizes = gpt2_small;
  sizes.width = width;
  sizes.heads = width / 64;
  sizes.ffn_width = 4 * width;
  constexpr int windows = 128, fewest = 5;
  Measured<Norm, Activation, Cuda> bf16(sizes, windows);
  Measured<Norm, Activation, CudaFP8> fp8(sizes, windows);
  const double start = now();
  for (int round = 0; round < fewest || now() - start < seconds; ++round) {
    bf16.measure();
    fp8.measure();
  }
  std::printf("| %d | %s | %.0f | %.0f | %.3f |\n", width, name, bf16.speed(), fp8.speed(),
              fp8.speed() / bf16.speed());
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) try {
  char *end_of_steps = nullptr, *end = nullptr;
  const long steps = argc == 3 ? std::strtol(argv[1], &end_of_steps, 10) : 0;
  const double seconds = argc == 3 ? std::strtod(argv[2], &end) : 0;
  if (argc != 3 || *end_of_steps != '\0' || *end != '\0' || steps < 1 || steps > 1000000)
    throw Error("usage: gpu_fp8 STEPS SECONDS");
  CudaFP8 device;  // or a refusal
  std::printf("# FP8 beside bf16: %s\n\n", device_name(device).c_str());
  std::printf("Loss after %ld steps of 4,096 tokens, 12 layers of width 768:\n\n", steps);
  std::printf("| | bf16 | FP8 | difference |\n|---|---:|---:|---:|\n");
  bool near = compare_losses<LayerNorm, GELU>("SM+LN+G", static_cast<int>(steps));
  near &= compare_losses<Identity, ReLU>("SM+R", static_cast<int>(steps));
  std::printf("\nTokens per second, 12 layers, steps of 16,384 tokens in windows of 128:\n\n");
  std::printf("| width | | bf16 | FP8 | ratio |\n|---:|---|---:|---:|---:|\n");
  for (const int width : {768, 1024, 1280, 1600}) {
    compare_speeds<LayerNorm, GELU>("SM+LN+G", width, seconds);
    compare_speeds<Identity, ReLU>("SM+R", width, seconds);
  }
  if (!near) throw Error("a loss in FP8 is off by more than 0.5 % of that in bf16");
} catch (const NoDevice& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 4;
} catch (const std::exception& error) {
  std::fprintf(stderr, "gpu_fp8: %s\n", error.what());
  return 1;
}
