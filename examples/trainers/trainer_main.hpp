#pragma once

#include <omp.h>

#include <chrono>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>

#if defined(LNFREE_TRAINER_BF16)
#include <lnfree/backend/cpu/bf16.hpp>
#elif defined(LNFREE_TRAINER_CUDA)
#include <lnfree/backend/cuda/cuda.hpp>
#endif
#include <lnfree/backend/cpu/share_cores.hpp>
#include <lnfree/backend/profiled.hpp>
#include <lnfree/model.hpp>
#include <lnfree/train/evaluate.hpp>
#include <lnfree/train/trainer.hpp>

#include "../signals.hpp"
#include "../standard_streams.hpp"
#include "profile_table.hpp"
#include "progress_line.hpp"
#include "run_plan.hpp"
#include "trainer_options.hpp"

/// The program that all trainers share. A trainer's source says the norm and the activation; the build says
/// the shape and the variant.
namespace trainers {

#if defined(LNFREE_TRAINER_BF16)
using Backend = lnfree::CpuBF16;
#elif defined(LNFREE_TRAINER_CUDA)
using Backend = lnfree::Cuda;
#else
using Backend = lnfree::Cpu;
#endif
using Device = lnfree::Profiled<Backend>;  // for --profile

#ifdef LNFREE_TRAINER_CUDA
inline constexpr bool is_on_gpu = true;
#else
inline constexpr bool is_on_gpu = false;
#endif

#ifdef LNFREE_TRAINER_CLEAN
inline constexpr bool is_clean = true;
#else
inline constexpr bool is_clean = false;
#endif

inline constexpr lnfree::DecoderConfig shape =
    is_clean ? lnfree::clean(LNFREE_TRAINER_SHAPE) : LNFREE_TRAINER_SHAPE;

/// What a trainer trains.
template <class Norm, class Activation, template <class> class Objective>
using Model = lnfree::Decoder<shape, Norm, Activation, Device,
                              lnfree::Observers<lnfree::EntropyObserver, lnfree::OutlierObserver>,
                              lnfree::AsConfigured, Objective>;

/// The paper's recipe: 512 windows a step, in passes as large as a GPU's memory allows, or that fit a CPU's
/// memory. At the small shapes another batch, number of steps and learning rate, the same for every
/// configuration. The clean recipe is that of the paper's text: no dropout, and slopes that do not decay.
inline ProgramOptions defaults() {
  constexpr bool is_small = shape.width < 512;
  ProgramOptions options;
  lnfree::TrainerOptions& training = options.training;
  if (is_small) {
    training = {.steps = 3906, .batch_size = 16, .accumulate = 1, .learning_rate = 2e-3, .warmup_ratio = 0.1};
  } else if (is_on_gpu) {
    options.step_windows = 512;
  } else {
    training.batch_size = 8;
    training.accumulate = 64;
  }
  if (is_clean) {
    training.dropout = 0;
    training.decay_slopes = false;
  }
  return options;
}

/// Exit status of a run whose loss stopped being a number.
inline constexpr int diverged_status = 3;

/// Exit status where there is no GPU for a program that needs one.
inline constexpr int no_device_status = 4;

/// Settles the batch, and says what the program takes of its device before it takes it. Throws Error where
/// that is more than the device has.
template <class Model>
RunPlan plan_on(typename Model::Device& device, ProgramOptions& options) {
  const lnfree::Purpose purpose =
      options.evaluate_only ? lnfree::Purpose::evaluation : lnfree::Purpose::training;
  RunPlan plan = plan_run(options, device_name(device), free_bytes(device), [&](int batch_size) {
    lnfree::MemoryPlan memory = Model::plan_memory(batch_size, purpose, device);
    memory.optimizer = lnfree::AdamW<Model>::bytes(memory);
    return memory;
  });
  std::fputs(plan.text().c_str(), stdout);
  options.training.batch_size = plan.batch.batch_size;
  options.training.accumulate = plan.batch.accumulate;
  return plan;
}

template <class Model>
void print_model(const Model& model) {
  constexpr lnfree::DecoderConfig config = Model::config;
  std::printf("%s, %s: %d layers, %d heads, width %d, context %d, vocabulary %d, %lld parameters\n",
              std::string(Model::Norm::name).c_str(), std::string(Model::Activation::name).c_str(),
              config.layers, config.heads, config.width, config.context, config.vocab_size,
              static_cast<long long>(model.parameters().trainable()));
}

/// The windows of a shard, as long as was asked for or else as the model's context. Says when the corpus has
/// fewer tokens than the model: that trains, and no program could read the rest.
inline lnfree::Windows open_windows(const std::filesystem::path& shard, const ProgramOptions& options) {
  if (options.context > shape.context) {
    throw lnfree::Error("--context " + std::to_string(options.context) +
                        " is more than the model's context of " + std::to_string(shape.context) + " tokens");
  }
  if (const auto info = lnfree::read_shard_info(shard);
      info && info->vocab_size > 0 && info->vocab_size < shape.vocab_size) {
    std::printf("note: %s was prepared with a vocabulary of %lld, the model has %d: the others never occur\n",
                shard.c_str(), static_cast<long long>(info->vocab_size), shape.vocab_size);
  }
  return {lnfree::TokenShard::open(shard), options.context > 0 ? options.context : shape.context,
          shape.vocab_size};
}

/// What the config.json beside some weights says against their use in this program; empty where there is none
/// or it agrees.
template <class Model>
std::string difference_beside(const std::filesystem::path& weights) {
  const std::filesystem::path folder = std::filesystem::absolute(weights).parent_path();
  if (!std::filesystem::exists(folder / "config.json")) return "";
  return lnfree::architecture_difference<Model>(folder);
}

/// What the checkpoint that some weights lie in says of the data it was trained on; nothing where it says
/// nothing.
inline lnfree::ShardIdentity trained_on(const std::filesystem::path& weights) {
  const std::filesystem::path folder = std::filesystem::absolute(weights).parent_path();
  if (!std::filesystem::exists(folder / "trainer.json")) return {};
  return lnfree::saved_identity(lnfree::read_checkpoint_json(folder / "trainer.json"), "train");
}

/// The weights that a run begins with. Those of another architecture with the same tensors are a way to
/// begin, too, as when GELU is exchanged for ReLU; it is said.
template <class Model>
void initialize(Model& model, const ProgramOptions& options) {
  const double std = options.init_std > 0 ? options.init_std : Model::config.init_std();
  model.initialize(options.training.seed, std);
  if (options.init_from.empty()) return;
  lnfree::load_weights(model, options.init_from);
  const std::string difference = difference_beside<Model>(options.init_from);
  if (!difference.empty()) std::printf("note: %s\n", difference.c_str());
  if (options.train.empty()) return;
  if (const auto before = trained_on(options.init_from), now = lnfree::tokenizer_of_shard(options.train);
      lnfree::tokenizers_differ(before, now)) {
    std::printf("note: %s is of another tokenizer than %s, on which the weights were trained\n",
                lnfree::tokenizer_text(now).c_str(), lnfree::tokenizer_text(before).c_str());
  }
}

template <class Model>
int plan_only(ProgramOptions options) {
  typename Model::Device device;
  const RunPlan plan = plan_on<Model>(device, options);
  if (!options.json.empty()) lnfree::write_file(options.json, plan.json().dump(2) + "\n");
  return 0;
}

template <class Model>
int evaluate_only(ProgramOptions options) {
  const lnfree::Windows windows = open_windows(options.validation, options);
  lnfree::check_same_tokenizer(trained_on(options.init_from), lnfree::tokenizer_of_shard(options.validation));
  typename Model::Device device;
  plan_on<Model>(device, options);
  Model model(options.training.batch_size, lnfree::Purpose::evaluation, device);
  lnfree::load_weights(model, options.init_from);
  const std::string difference = difference_beside<Model>(options.init_from);
  if (!difference.empty()) throw lnfree::Error(difference);
  print_model(model);
  const lnfree::Evaluation result = lnfree::evaluate(model, windows);
  std::printf("evaluation loss %.6f nats over %lld targets, perplexity %.4f\n", result.eval_loss,
              static_cast<long long>(result.targets), result.perplexity());
  if (!options.json.empty()) {
    lnfree::Json json{{"eval_loss", result.eval_loss},
                      {"perplexity", result.perplexity()},
                      {"targets", result.targets},
                      {"parameters", model.parameters().trainable()}};
    for (const auto& seen : lnfree::observations(model)) json.update(seen);
    lnfree::write_file(options.json, json.dump(2) + "\n");
  }
  return 0;
}

/// Where the time of a step goes: the steps of a run, heads observed.
template <class Model>
int profile(ProgramOptions options) {
  const lnfree::TrainerOptions& training = options.training;
  const lnfree::Windows windows = open_windows(options.train, options);
  typename Model::Device device;
  plan_on<Model>(device, options);
  Model model(training.batch_size, lnfree::Purpose::training, device);
  initialize(model, options);
  lnfree::AdamW optimizer(model,
                          {.weight_decay = training.weight_decay, .decay_slopes = training.decay_slopes});
  print_model(model);

  lnfree::WindowOrder order(windows.count(), training.seed, training.shuffle);
  lnfree::WindowBatch batch(training.batch_size, static_cast<int>(windows.context()));
  std::int64_t done = 0;
  const auto step = [&] {
    lnfree::accumulate_gradients(model, windows, order, batch, training, done++, true);
    optimizer.step(training.learning_rate);
  };
  step();  // touches all memory once
  model.device().profile.start();
  const auto start = std::chrono::steady_clock::now();
  while (done <= options.profile) step();
  const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start;

  const ProfileTable table(model.device().profile, options.profile, time.count());
  std::fputs(table.text().c_str(), stdout);
  if (!options.json.empty()) lnfree::write_file(options.json, table.json().dump(2) + "\n");
  return 0;
}

/// Writes the initial checkpoint of a run of no steps, for which no data is needed.
template <class Model>
int train(ProgramOptions options) {
  const lnfree::TrainerOptions& training = options.training;
  std::optional<lnfree::Windows> windows, validation;
  if (!options.train.empty()) windows.emplace(open_windows(options.train, options));
  if (!options.validation.empty()) validation.emplace(open_windows(options.validation, options));

  typename Model::Device device;
  plan_on<Model>(device, options);
  Model model(training.batch_size, lnfree::Purpose::training, device);
  initialize(model, options);

  ProgressLine line;
  lnfree::Trainer<Model> trainer(model, windows ? &*windows : nullptr, validation ? &*validation : nullptr,
                                 training, options.out,
                                 {.on_step = [&](const lnfree::Progress& progress) { line.show(progress); },
                                  .on_message = [&](const std::string& text) { line.message(text); }});
  print_model(model);
  if (options.resume) {
    trainer.resume();
    line.message("resumed at step " + std::to_string(trainer.step()));
  } else {
    trainer.start();
  }
  signals::catch_stop();
  switch (trainer.run([] { return signals::stop_signal != 0; })) {
    case lnfree::Outcome::finished:
      line.message("finished: " + std::to_string(trainer.step()) + " steps, checkpoint in " +
                   trainer.checkpoint_folder().string());
      return 0;
    case lnfree::Outcome::interrupted:
      line.message("stopped at step " + std::to_string(trainer.step()) + ", checkpoint in " +
                   trainer.checkpoint_folder().string() + "; go on with --resume");
      return 128 + signals::stop_signal;
    case lnfree::Outcome::diverged:
      return diverged_status;
  }
  return 1;
}

/// `main` of every trainer: 0 done, 1 an error said in one sentence, 3 diverged, 4 no GPU, 128 + signal when
/// stopped.
template <class Norm, class Activation, template <class> class Objective = lnfree::CrossEntropy>
int trainer_main(int argc, char** argv) {
  lnfree::cpu::share_cores(argv);
  const std::string description = "Trains a decoder-only transformer with norm " + std::string(Norm::name) +
                                  " and activation " + std::string(Activation::name) +
                                  " on token shards, and measures the entropy of every attention head.";
  int exit_status = 0;
  const auto options = parse_options(argc, argv, description, defaults(), exit_status);
  if (!options) return exit_status;
  if (options->threads > 0) omp_set_num_threads(options->threads);
  try {
    using Model = trainers::Model<Norm, Activation, Objective>;
    const bool trains = !options->plan_only && !options->evaluate_only && options->profile == 0;
    if (trains) return train<Model>(*options);
    const int status = options->plan_only       ? plan_only<Model>(*options)
                       : options->evaluate_only ? evaluate_only<Model>(*options)
                                                : profile<Model>(*options);
    if (options->json.empty()) require_standard_output();
    return status;
  } catch (const lnfree::NoDevice& error) {
    complain(std::filesystem::path(argv[0]).filename(), error.what());
    return no_device_status;
  } catch (const std::exception& error) {
    return complain(std::filesystem::path(argv[0]).filename(), error.what());
  }
}

}  // namespace trainers
