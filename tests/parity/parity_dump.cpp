/// parity_dump CONFIGURATION FOLDER
///
/// What parity.py compares with PyTorch: from FOLDER/model.safetensors and FOLDER/tokens.bin, the loss, the
/// gradients (FOLDER/gradients.safetensors) and head entropies of the first optimizer step's windows; and
/// after as many steps as there are windows for, the weights (FOLDER/trained.safetensors) and the first
/// step's loss again. The numbers go to FOLDER/result.json.
#include <cstdint>
#include <exception>
#include <filesystem>
#include <iostream>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#ifdef LNFREE_TEST_CUDA
#include <lnfree/backend/cuda/cuda.hpp>
#endif
#include <lnfree/data/windows.hpp>
#include <lnfree/model.hpp>
#include <lnfree/train/checkpoint.hpp>
#include <lnfree/train/evaluate.hpp>

using namespace lnfree;

#ifndef LNFREE_PARITY_DEVICE
#define LNFREE_PARITY_DEVICE Cpu
#endif
using Target = LNFREE_PARITY_DEVICE;

// As parity.py has them; a step's windows come in two halves, so that accumulation is compared too.
constexpr DecoderConfig shape{.layers = 3,
                              .heads = 4,
                              .width = 64,
                              .ffn_width = 256,
                              .context = 32,
                              .vocab_size = 256,
                              .positions = 40};
constexpr DecoderConfig pythia = [] {
  DecoderConfig config = shape;
  config.biases = Biases::all;
  config.tied_output = false;
  config.rotary_dims = 4;
  config.parallel_residual = true;
  return config;
}();
constexpr int accumulation_steps = 2;
constexpr int batch_size = 2;
constexpr std::uint64_t dropout_seed = 0x0123456789abcdef;
constexpr int windows_per_step = accumulation_steps * batch_size;

template <DecoderConfig Config, class Norm, class Activation, class Layout = AsConfigured,
          template <class> class Objective = CrossEntropy>
void dump(const std::filesystem::path& folder, double dropout_rate = 0) {
  using Model = Decoder<Config, Norm, Activation, Target, EntropyObserver, Layout, Objective>;
  Model model(batch_size);
  load_weights(model, folder / "model.safetensors");
  // One head's row is as good as another: the mean does not depend on how a step's windows are cut into
  // passes.
  if constexpr (requires { model.objective().options(); }) {
    // Not assigned as {.coefficient = 0.3, .sums_rows = false}: nvcc 13 gives the second value to the second
    // member.
    EntropyGuidedOptions& options = model.objective().options();
    options.coefficient = 0.3;
    options.sums_rows = false;
  }
  const Windows windows(TokenShard::open(folder / "tokens.bin"), Config.context, Config.vocab_size);

  // Calls pass(batch, number) on both halves of a step's windows, with the number of passes before it; the
  // mean of what it returns.
  WindowBatch memory(batch_size, Config.context);
  const auto over_windows_of = [&](std::int64_t step, auto pass) {
    double sum = 0;
    for (int half = 0; half < accumulation_steps; ++half) {
      const std::int64_t number = step * accumulation_steps + half;
      for (int row = 0; row < batch_size; ++row) memory.read(windows, number * batch_size + row, row);
      sum += pass(memory.batch(batch_size), static_cast<std::uint64_t>(number));
    }
    return sum / accumulation_steps;
  };
  const auto accumulate_gradients = [&](const Batch& batch, std::uint64_t number) {
    return model.forward_backward(
        batch, {.gradient_scale = 1.0 / accumulation_steps, .dropout = {dropout_rate, dropout_seed, number}});
  };

  nlohmann::ordered_json result;
  result["loss"] = over_windows_of(0, accumulate_gradients);
  result["head_entropy"] = model.observer().head_entropy();
  result["nonfinite_rows"] = model.observer().nonfinite_rows();
  std::vector<NamedTensor> gradients;
  for (const auto& parameter : model.parameters().all())
    gradients.push_back(named_tensor(model, parameter, parameter.gradient));
  save_safetensors(folder / "gradients.safetensors", gradients);
  model.parameters().zero_gradients(model.device());

  AdamW optimizer(model);
  const WarmupLinearSchedule schedule{.steps = windows.count() / windows_per_step};
  for (std::int64_t step = 0; step < schedule.steps; ++step) {
    over_windows_of(step, accumulate_gradients);
    optimizer.step(schedule(step));
  }
  save_weights(model, folder / "trained.safetensors");
  result["trained_loss"] =
      over_windows_of(0, [&](const Batch& batch, std::uint64_t) { return model.loss(batch, false); });
  write_file(folder / "result.json", result.dump(2) + "\n");
}

int main(int argc, char** argv) try {
  if (argc != 3) throw Error("usage: parity_dump CONFIGURATION FOLDER");
  const std::string_view configuration = argv[1];
  const std::filesystem::path folder = argv[2];
  if (configuration == "sm_ln_g") {
    dump<shape, LayerNorm, GELU>(folder);
  } else if (configuration == "sm_ln_r") {
    dump<shape, LayerNorm, ReLU>(folder);
  } else if (configuration == "sm_g") {
    dump<shape, Identity, GELU>(folder);
  } else if (configuration == "sm_r") {
    dump<shape, Identity, ReLU>(folder);
  } else if (configuration == "leaky_per_layer") {
    dump<shape, Identity, LeakyLearnable<Scope::per_layer>>(folder);
  } else if (configuration == "leaky_global") {
    dump<shape, Identity, LeakyLearnable<Scope::global>>(folder);
  } else if (configuration == "clean") {
    dump<clean(shape), Identity, ReLU>(folder);
  } else if (configuration == "pythia_ln_g") {
    dump<pythia, LayerNorm, GELU>(folder);
  } else if (configuration == "pythia_r") {
    dump<pythia, Identity, ReLU>(folder);
  } else if (configuration == "pythia_70m") {
    dump<pythia_70m, LayerNorm, GELU>(folder);
  } else if (configuration == "rms_silu") {
    dump<shape, RMSNorm, SiLU>(folder);
  } else if (configuration == "dyt_squared_relu") {
    dump<shape, DynamicTanh, SquaredReLU>(folder);
  } else if (configuration == "derf_g") {
    dump<shape, DynamicErf, GELU>(folder);
  } else if (configuration == "relu_gelu") {
    dump<shape, Identity, Layerwise<ReLU, 2, GELU>>(folder);
  } else if (configuration == "entropy_g") {
    dump<shape, Identity, GELU, PreNorm, EntropyGuided>(folder);
  } else if (configuration == "dropout_ln_g") {
    dump<shape, LayerNorm, GELU>(folder, 0.2);
  } else {
    throw Error("there is no configuration " + std::string(configuration) + "; parity.py names them all");
  }
} catch (const std::exception& error) {
  std::cerr << "parity_dump: " << error.what() << '\n';
  return 1;
}
