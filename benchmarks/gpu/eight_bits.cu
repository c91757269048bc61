/// gpu_eight_bits STEPS SECONDS
///
/// Compares training in the formats of eight bits that the GPU has, FP8 and INT8, with training in bf16. In
/// FP8 it does so with and without the products that compute logits. Trains a model of GPT-2's size for STEPS
/// steps in each on the same sequences and compares the losses; then measures the speed of each beside bf16
/// for at least SECONDS at each width, and products in INT8 alone. Writes tables, and exits with status 1 if
/// a loss in eight bits differs by more than 0.5 %.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <lnfree/core/memory.hpp>
#include <lnfree/core/random.hpp>
#include <lnfree/device/cuda/fp8.hpp>
#include <lnfree/device/cuda/int8.hpp>
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

/// A device's name in tables.
template <class Device>
std::string format_name() {
  return std::string(Device::Format::name) + (Device::rounds_output_matrix ? " and logits" : "");
}

/// Whether the loss in a format is close enough to that in bf16. Where the format fails, says why in its row.
template <class Norm, class Activation, class Device>
bool compare_loss(const char* name, int steps, double bf16) {
  double loss = 0;
  try {
    loss = loss_after<Norm, Activation, Device>(steps);
  } catch (const Error& error) {
    std::printf("| %s | %s | %.4f | %s | |\n", name, format_name<Device>().c_str(), bf16, error.what());
    std::fflush(stdout);
    return false;
  }
  std::printf("| %s | %s | %.4f | %.4f | %+.2f %% |\n", name, format_name<Device>().c_str(), bf16, loss,
              100 * (loss / bf16 - 1));
  std::fflush(stdout);
  return std::abs(loss / bf16 - 1) <= largest_difference;
}

/// The formats that the GPU has.
struct Formats {
  bool fp8, int8;
};

/// Whether the losses are close enough.
template <class Norm, class Activation>
bool compare_losses(Formats formats, const char* name, int steps) {
  const double bf16 = loss_after<Norm, Activation, Cuda>(steps);
  bool near = true;
  if (formats.fp8) near &= compare_loss<Norm, Activation, CudaFP8>(name, steps, bf16);
  if (formats.fp8) near &= compare_loss<Norm, Activation, CudaFP8Head>(name, steps, bf16);
  if (formats.int8) near &= compare_loss<Norm, Activation, CudaInt8>(name, steps, bf16);
  return near;
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
    set_weights();
    for (int step = 0; step < 3; ++step) take_step();  // products are planned, and the pass is recorded
  }

  void measure() {
    const double start = now();
    const Index tokens = take_step();
    speeds_.push_back(static_cast<double>(tokens) / (now() - start));
  }
  double speed() const { return benchmarks::median(speeds_); }

 private:
  /// Sets each matrix to the same random numbers again and again: to draw new ones for each would take longer
  /// than the measurement.
  void set_weights() {
    constexpr Index count = Index{1} << 20;
    static const std::vector<float> drawn = [] {
      std::vector<float> numbers(count);
      fill_normal(numbers.data(), count, 0.02, Philox(1, 0));
      return numbers;
    }();
    for (auto& parameter : model_.parameters().all()) {
      const std::vector<float> constant(count, static_cast<float>(parameter.initial));
      const float* const from = is_matrix(parameter.kind) ? drawn.data() : constant.data();
      for (Index first = 0; first < parameter.size(); first += count)
        model_.parameters().write(model_.device(), parameter, first,
                                  std::min(count, parameter.size() - first), from);
    }
  }

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

/// The speeds of a format and of bf16, measured in turns; with fewer windows if the GPU has no room for two
/// models. Where the format fails, says why in its row.
template <class Norm, class Activation, class Device>
void compare_speeds(const char* name, const DecoderConfig& sizes, double seconds) {
  constexpr int fewest_rounds = 5, most_windows = 128, fewest_windows = 8;
  for (int windows = most_windows; windows >= fewest_windows; windows /= 2) {
    std::printf("| %d | %s | %d | %s | ", sizes.width, name, windows * sizes.context,
                format_name<Device>().c_str());
    try {
      Measured<Norm, Activation, Cuda> bf16(sizes, windows);
      Measured<Norm, Activation, Device> eight_bits(sizes, windows);
      const double start = now();
      for (int round = 0; round < fewest_rounds || now() - start < seconds; ++round) {
        bf16.measure();
        eight_bits.measure();
      }
      std::printf("%.0f | %.0f | %.3f |\n", bf16.speed(), eight_bits.speed(),
                  eight_bits.speed() / bf16.speed());
      std::fflush(stdout);
      return;
    } catch (const Error& error) {
      std::printf("%s | | |\n", error.what());
      std::fflush(stdout);
      if (!std::string_view(error.what()).starts_with("out of GPU memory")) return;
    }
  }
}

template <class Norm, class Activation>
void compare_speeds(Formats formats, const char* name, int width, double seconds) {
  DecoderConfig sizes = gpt2_small;
  sizes.width = width;
  sizes.heads = width / 64;
  sizes.ffn_width = 4 * width;
  if (formats.fp8) compare_speeds<Norm, Activation, CudaFP8>(name, sizes, seconds);
  if (formats.fp8) compare_speeds<Norm, Activation, CudaFP8Head>(name, sizes, seconds);
  if (formats.int8) compare_speeds<Norm, Activation, CudaInt8>(name, sizes, seconds);
}

/// The products x W of a layer of GPT-2 over 16,384 tokens: in INT8 and in bf16 by the same kernel, by
/// cuBLASLt in bf16, and the rounding of x to INT8, in turns.
void compare_products(Index in, Index out, double seconds) {
  constexpr Index rows = 16384;
  constexpr int fewest_rounds = 20;
  CudaInt8 device;
  Buffer<CudaInt8> memory(device, 0);
  Matrix<BFloat16> x, w, y;
  Matrix<std::int8_t> rounded_x, rounded_w;
  float *x_scales = nullptr, *w_scales = nullptr;
  const auto plan = [&](Arena arena) {
    x = arena.matrix<BFloat16>(rows, in);
    w = arena.matrix<BFloat16>(out, in);
    y = arena.matrix<BFloat16>(rows, out);
    rounded_x = arena.matrix<std::int8_t>(rows, in);
    rounded_w = arena.matrix<std::int8_t>(out, in);
    x_scales = arena.take<float>(rows);
    w_scales = arena.take<float>(out);
    return arena.peak();
  };
  memory = Buffer<CudaInt8>(device, plan(Arena()));
  plan(Arena(memory.data()));
  // Random numbers: products of zeros take less power.
  const auto fill = [&](Matrix<BFloat16> matrix, std::uint64_t seed) {
    std::vector<float> drawn(static_cast<std::size_t>(matrix.size()));
    fill_normal(drawn.data(), matrix.size(), 0.02, Philox(seed, 0));
    const std::vector<BFloat16> numbers(drawn.begin(), drawn.end());
    copy_to_device(device, matrix.data, numbers.data(), numbers.size() * sizeof(BFloat16));
  };
  fill(x, 1);
  fill(w, 2);
  cuda::Stream& stream = device.stream();
  cuda::round_rows(stream, w, rounded_w, w_scales);
  const auto round = [&] { cuda::round_rows(stream, x, rounded_x, x_scales); };
  const auto in_int8 = [&] {
    cuda::multiply<std::int8_t>(stream, {rounded_x, rounded_w, x_scales, w_scales, y, nullptr, false});
  };
  const auto in_bf16 = [&] { cuda::multiply<BFloat16>(stream, {x, w, nullptr, nullptr, y, nullptr, false}); };
  const auto by_cublas = [&] {
    device.handles->products.run(Operand<BFloat16>(x), transpose(w), Output<BFloat16>(y));
  };
  std::vector<double> times[4];
  const auto take = [&] {
    times[0].push_back(stream.milliseconds(round));
    times[1].push_back(stream.milliseconds(in_int8));
    times[2].push_back(stream.milliseconds(in_bf16));
    times[3].push_back(stream.milliseconds(by_cublas));
  };
  take();  // plans and warms up
  for (auto& of : times) of.clear();
  const double start = now();
  for (int round_number = 0; round_number < fewest_rounds || now() - start < seconds; ++round_number) take();
  double medians[4];
  std::transform(std::begin(times), std::end(times), medians, benchmarks::median);
  const auto [rounding, int8, bf16, cublas] = medians;
  const double operations = 2e-9 * static_cast<double>(rows * in * out);
  std::printf("| %lld | %lld | %.3f | %.3f (%.0f) | %.3f (%.0f) | %.3f (%.0f) | %.2f |\n",
              static_cast<long long>(in), static_cast<long long>(out), rounding, int8, operations / int8,
              bf16, operations / bf16, cublas, operations / cublas, cublas / (rounding + int8));
  std::fflush(stdout);
}

/// Whether the GPU multiplies in the device's format.
template <class Device>
bool has_format() {
  try {
    Device();
    return true;
  } catch (const NoDevice&) {
    return false;
  }
}

}  // namespace

int main(int argc, char** argv) try {
  char *end_of_steps = nullptr, *end = nullptr;
  const long steps = argc == 3 ? std::strtol(argv[1], &end_of_steps, 10) : 0;
  const double seconds = argc == 3 ? std::strtod(argv[2], &end) : 0;
  if (argc != 3 || *end_of_steps != '\0' || *end != '\0' || steps < 1 || steps > 1000000)
    throw Error("usage: gpu_eight_bits STEPS SECONDS");
  Cuda device;  // throws if there is no GPU
  const Formats formats{has_format<CudaFP8>(), has_format<CudaInt8>()};
  std::printf("# Eight bits beside bf16: %s\n\n", device_name(device).c_str());
  std::printf("Loss after %ld steps of 4,096 tokens, 12 layers of width 768:\n\n", steps);
  std::printf("| | format | bf16 | eight bits | difference |\n|---|---|---:|---:|---:|\n");
  bool near = compare_losses<LayerNorm, GELU>(formats, "SM+LN+G", static_cast<int>(steps));
  near &= compare_losses<Identity, ReLU>(formats, "SM+R", static_cast<int>(steps));
  std::printf("\nTokens per second, 12 layers, windows of 128:\n\n");
  std::printf("| width | | tokens in a step | format | bf16 | eight bits | ratio |\n");
  std::printf("|---:|---|---:|---|---:|---:|---:|\n");
  for (const int width : {768, 1024, 1280, 1600}) {
    compare_speeds<LayerNorm, GELU>(formats, "SM+LN+G", width, seconds);
    compare_speeds<Identity, ReLU>(formats, "SM+R", width, seconds);
  }
  if (formats.int8) {
    std::printf(
        "\nMilliseconds (and 10^12 operations per second) of products with 16,384 rows; the gain is ");
    std::printf("that of rounding and INT8 over cuBLASLt:\n\n");
    std::printf("| in | out | rounding to INT8 | INT8 | bf16, same kernel | bf16, cuBLASLt | gain |\n");
    std::printf("|---:|---:|---:|---:|---:|---:|---:|\n");
    constexpr Index width = gpt2_small.width, hidden = gpt2_small.ffn_width;
    for (const auto& [in, out] :
         {std::pair{width, 3 * width}, {width, width}, {width, hidden}, {hidden, width}})
      compare_products(in, out, seconds / 4);
  }
  if (!near) throw Error("a loss in eight bits is off by more than 0.5 % of that in bf16");
} catch (const NoDevice& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 4;
} catch (const std::exception& error) {
  std::fprintf(stderr, "gpu_eight_bits: %s\n", error.what());
  return 1;
}
