/// parity_dump CASE FOLDER
/// parity_dump --list
///
/// Computes what parity.py compares with PyTorch: from FOLDER/model.safetensors and FOLDER/tokens.bin, the
/// loss, the gradients (FOLDER/gradients.safetensors) and head entropies of the first optimizer step's
/// windows; and after as many steps as there are windows for, the weights (FOLDER/trained.safetensors) and
/// the first step's loss again. The numbers go to FOLDER/result.json. --list prints the cases as JSON: the
/// architecture of each as in config.json, its rate of dropout, its objective and its optimizer. The teacher
/// of an objective that needs one is FOLDER/teacher.safetensors, of the model's own architecture.
#include <cstdint>
#include <exception>
#include <filesystem>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#ifdef LNFREE_TEST_CUDA
#include <lnfree/device/cuda/cuda.hpp>
#else
#include <lnfree/device/eigen/eigen.hpp>
#endif
#include <lnfree/data/windows.hpp>
#include <lnfree/model.hpp>
#include <lnfree/nn/teacher.hpp>
#include <lnfree/train/checkpoint.hpp>
#include <lnfree/train/evaluate.hpp>
#include <lnfree/train/norm_removal.hpp>

#include "../../examples/configurations.hpp"

using namespace lnfree;

#ifndef LNFREE_PARITY_DEVICE
#define LNFREE_PARITY_DEVICE Cpu
#endif
using Target = LNFREE_PARITY_DEVICE;

// A step's windows come in two halves, so that accumulation is compared too.
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

/// The dump of a model that has its teacher, if it needs one. Models of one objective share it, whatever
/// their architecture. `removal` is how the model's norms are removed, if they are.
template <template <class> class OptimizerPolicy, class Observer, template <class> class Objective>
void dump_course(DynamicDecoder<Target, Observer, Objective>& model, std::optional<Removal> removal,
                 const std::filesystem::path& folder, double dropout_rate) {
  const DecoderConfig& config = model.config;
  load_weights(model, folder / "model.safetensors");
  // Rows have equal weight: the mean does not depend on how a step's windows are divided into passes.
  if constexpr (std::is_same_v<Objective<Target>, EntropyGuided<Target>>) {
    // Not assigned as {.coefficient = 0.3, .sums_rows = false}: nvcc 13 gives the second value to the second
    // member.
    EntropyGuidedOptions& options = model.objective().options();
    options.coefficient = 0.3;
    options.sums_rows = false;
  }
  constexpr bool has_target = std::is_same_v<Objective<Target>, SteadyScale<Target>>;
  if constexpr (std::is_same_v<Objective<Target>, SparseHidden<Target>>)
    model.objective().options().coefficient = 0.01;
  if constexpr (has_target) {
    model.objective().options().coefficient = 0.7;
    model.objective().options().anchor = 0.3;
    model.objective().set_target(1.25);
  }
  const Windows windows(TokenShard::open(folder / "tokens.bin"), config.context, config.vocab_size);

  // Calls pass(batch, number) on both halves of a step's windows, with the number of passes before it; the
  // mean of what it returns.
  WindowBatch memory(batch_size, config.context);
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

  OptimizerPolicy<DynamicDecoder<Target, Observer, Objective>> optimizer(model);
  const WarmupLinearSchedule schedule{.steps = windows.count() / windows_per_step};
  const auto steps_of = [&](const auto& before, const auto& pass, const auto& after) {
    for (std::int64_t step = 0; step < schedule.steps; ++step) {
      before(step);
      over_windows_of(step, pass);
      optimizer.step(schedule(step));
      after(step);
    }
  };
  const auto nothing = [](std::int64_t) {};
  if (!removal) steps_of(nothing, accumulate_gradients, nothing);
  if constexpr (has_target) {
    if (removal) {
      NormRemoval norms(model, {0.1, 0.7}, *removal, schedule.steps);
      norms.read();
      std::vector<double> of_norms, of_objective;
      const auto set_gates = [&](std::int64_t step) { norms.set_gates(step); };
      const auto measured = [&](const Batch& batch, std::uint64_t number) {
        const double loss = accumulate_gradients(batch, number);
        norms.measure(batch.shape.rows(), of_norms);
        model.objective().measure(of_objective);
        return loss;
      };
      steps_of(set_gates, measured, [&](std::int64_t step) {
        if (norms.measures()) model.objective().update_target(step, of_objective);
        norms.set_scales(step, of_norms);
        of_norms.clear();
        of_objective.clear();
      });
      norms.set_gates(schedule.steps);
    }
  }
  save_weights(model, folder / "trained.safetensors");
  result["trained_loss"] =
      over_windows_of(0, [&](const Batch& batch, std::uint64_t) { return model.loss(batch, false); });
  write_file(folder / "result.json", result.dump(2) + "\n");
}

template <class Model, template <class> class OptimizerPolicy>
void dump(const std::filesystem::path& folder, double dropout_rate) {
  Model model(batch_size);
  if constexpr (LearnsFromTeacher<typename Model::Objective>) {
    auto teacher = std::make_shared<Model>(batch_size, Purpose::evaluation, model.device());
    load_weights(*teacher, folder / "teacher.safetensors");
    model.objective().options().weight = 0.4;
    model.objective().options().temperature = 2;
    model.objective().options().layers = "0,2:1";
    model.objective().options().hidden_weight = 0.6;
    learn_from(model, std::move(teacher));
  }
  std::optional<Removal> removal;
  if constexpr (HasRemovableNorms<Model>) {
    static_assert(std::is_same_v<typename Model::Objective, SteadyScale<Target>>);
    removal = Model::Norm::removal;
  }
  dump_course<OptimizerPolicy>(model, removal, folder, dropout_rate);
}

/// A named case for comparison.
struct Case {
  std::string_view name;
  double dropout;
  std::string_view objective;
  std::string_view optimizer;
  Json (*architecture)();
  void (*dump)(const std::filesystem::path& folder, double dropout_rate);
};

template <DecoderConfig Config, template <DecoderConfig> class Configuration,
          template <class> class OptimizerPolicy = AdamW>
constexpr Case case_of(std::string_view name, double dropout = 0) {
  using Parts = Configuration<Config>;
  using Model = Decoder<Config, typename Parts::NormPolicy, typename Parts::ActivationPolicy, Target,
                        EntropyObserver, typename Parts::LayoutPolicy, Parts::template ObjectivePolicy>;
  return {name,
          dropout,
          Model::Objective::name,
          OptimizerPolicy<Model>::name,
          config_json<Model>,
          dump<Model, OptimizerPolicy>};
}

constexpr DecoderConfig without_final_norm = [] {
  DecoderConfig config = shape;
  config.final_norm = FinalNorm::none;
  return config;
}();
template <DecoderConfig>
using post_norm = configurations::Configuration<LayerNorm, GELU, PostNorm>;
template <DecoderConfig>
using sandwich = configurations::Configuration<RMSNorm, ReLU, Sandwich>;

// Every configuration of the trainers, and everything else that changes a model's mathematics.
constexpr Case cases[] = {
#define CONFIGURATION(name, ...) case_of<shape, configurations::name>(#name),
#include "../../examples/configurations.def"
    case_of<clean(shape), configurations::sm_r>("clean"),
    case_of<clean(shape), configurations::sm_ln_g_tapered>("clean_tapered"),
    case_of<pythia, configurations::sm_ln_g>("pythia_ln_g"),
    case_of<pythia, configurations::sm_r>("pythia_r"),
    case_of<shape, configurations::sm_ln_g>("dropout_ln_g", 0.2),
    case_of<shape, configurations::sm_ln_g, Muon>("muon_ln_g"),
    case_of<without_final_norm, post_norm>("post_norm_ln_g"),
    case_of<shape, sandwich>("sandwich_rms_r"),
    case_of<pythia_70m, configurations::sm_ln_g>("pythia_70m"),
};

int main(int argc, char** argv) try {
  if (argc == 2 && std::string_view(argv[1]) == "--list") {
    Json list;
    for (const Case& each : cases) {
      list[std::string(each.name)] = {{"architecture", each.architecture()},
                                      {"dropout", each.dropout},
                                      {"objective", each.objective},
                                      {"optimizer", each.optimizer}};
    }
    std::cout << list.dump(2) << '\n';
    return 0;
  }
  if (argc != 3) throw Error("usage: parity_dump CASE FOLDER, or parity_dump --list");
  for (const Case& each : cases) {
    if (each.name != argv[1]) continue;
    each.dump(argv[2], each.dropout);
    return 0;
  }
  throw Error("there is no case " + std::string(argv[1]) + "; --list prints them all");
} catch (const std::exception& error) {
  std::cerr << "parity_dump: " << error.what() << '\n';
  return 1;
}
