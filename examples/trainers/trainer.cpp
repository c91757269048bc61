/// A trainer. CMake compiles this file once for each program train_<shape>_<configuration>; program_types.hpp
/// has what they differ in.
#include <omp.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <lnfree/device/cpu/share_cores.hpp>
#include <lnfree/train/evaluate.hpp>
#include <lnfree/train/trainer.hpp>

#include "../result_file.hpp"
#include "../signals.hpp"
#include "../standard_streams.hpp"
#include "objective_flags.hpp"
#include "profile_table.hpp"
#include "program_types.hpp"
#include "progress_line.hpp"
#include "removal_flags.hpp"
#include "run_plan.hpp"
#include "silence.hpp"
#include "trainer_options.hpp"

namespace {

using namespace program;

/// The default options of a run.
ProgramOptions defaults() {
  ProgramOptions options;
  options.for_ranks = lnfree::has_ranks<Ranks>;
  lnfree::TrainerOptions& training = options.training;
  training.steps = schedule.steps;
  training.learning_rate = schedule.learning_rate;
  training.warmup_ratio = schedule.warmup_ratio;
  training.weight_decay = schedule.weight_decay;
  training.dropout = recipe.dropout;
  training.decay_slopes = recipe.decay_slopes;
  options.init_std = schedule.init_std;
  if (is_on_gpu && schedule.accumulate > 1) {
    options.step_windows = schedule.batch_size * schedule.accumulate;
  } else {
    training.batch_size = schedule.batch_size;
    training.accumulate = schedule.accumulate;
  }
  return options;
}

/// Exit status of a run that diverged.
constexpr int diverged_status = 3;

/// Exit status if there is no GPU for a program that needs one.
constexpr int no_device_status = 4;

/// What the command line says of the objective.
ObjectiveFlags<Model>& objective_flags() {
  static ObjectiveFlags<Model> flags;
  return flags;
}

/// What the command line says of the removal of norms.
RemovalFlags<Trainer>& removal_flags() {
  static RemovalFlags<Trainer> flags;
  return flags;
}

/// The memory that every rank may take on its device: ranks on one machine share its memory, but not GPUs,
/// and all ranks plan alike.
std::size_t free_for_rank(Model::Device& device, const Ranks& ranks) {
  const int sharers = is_on_gpu ? 1 : ranks.local_size();
  const auto own = static_cast<double>(free_bytes(device) / static_cast<std::size_t>(sharers));
  const std::vector<double> all = ranks.gather(std::span(&own, 1));
  return static_cast<std::size_t>(*std::min_element(all.begin(), all.end()));
}

/// Chooses the batch, and prints how much of the `free` bytes of its device the program will take. Throws
/// Error if that is too much.
RunPlan plan_on(Model::Device& device, std::size_t free, ProgramOptions& options, const Ranks& ranks) {
  const bool trains = !options.evaluate_only;
  const lnfree::Purpose purpose = trains ? lnfree::Purpose::training : lnfree::Purpose::evaluation;
  const auto memory_of = [&](lnfree::BatchSplit batch) {
    lnfree::MemoryPlan memory = Model::plan_memory(batch.batch_size, purpose, device);
    memory.optimizer = lnfree::AdamW<Model>::bytes(memory);
    if (options.training.zero) memory.optimizer /= static_cast<std::size_t>(ranks.size());
    if (trains) {
      memory.gradients += lnfree::DataParallel<Model, Ranks>::bytes(memory, ranks, batch.accumulate);
      memory.teacher = objective_flags().teacher_bytes(device, batch.batch_size, options.teacher);
    }
    return memory;
  };
  RunPlan plan = plan_run(options, device_name(device), free, trains ? ranks.size() : 1, memory_of);
  std::fputs(plan.text().c_str(), stdout);
  options.training.batch_size = plan.batch.batch_size;
  options.training.accumulate = plan.batch.accumulate;
  return plan;
}

/// Switches off optional observers that were not requested.
void choose_observers([[maybe_unused]] Observer& observer, const ProgramOptions& options) {
#ifdef LNFREE_TRAINER_CUDA
  if (options.observe_signal || options.observe_weights) {
    throw lnfree::Error(
        "--observe-signal and --observe-weights need a trainer for the CPU; use one to evaluate the "
        "checkpoint (--evaluate-only)");
  }
#else
  observer.enable<lnfree::SignalObserver>(options.observe_signal);
  observer.enable<lnfree::WeightObserver>(options.observe_weights);
#endif
}

void print_model(const Model& model) {
  constexpr lnfree::DecoderConfig config = Model::config;
  std::printf("%s, %s: %d layers, %d heads, width %d, context %d, vocabulary %d, %lld parameters\n",
              std::string(Model::Norm::name).c_str(), std::string(Model::Activation::name).c_str(),
              config.layers, config.heads, config.width, config.context, config.vocab_size,
              static_cast<long long>(model.parameters().trainable()));
}

/// The windows of token shards, of the requested length or else of the model's context. Prints a note if the
/// corpus has a smaller vocabulary than the model, which is allowed.
lnfree::Windows open_windows(const std::vector<std::filesystem::path>& patterns,
                             const ProgramOptions& options) {
  if (options.context > shape.context) {
    throw lnfree::Error("--context " + std::to_string(options.context) +
                        " is more than the model's context of " + std::to_string(shape.context) + " tokens");
  }
  auto shards = lnfree::ShardSet::open(patterns, options.vocab_size);
  if (const auto identity = lnfree::tokenizer_of(shards);
      identity.vocab_size > 0 && identity.vocab_size < shape.vocab_size) {
    std::printf(
        "note: %s was prepared with a vocabulary of %lld, but the model has %d: the other tokens never "
        "occur\n",
        identity.path.c_str(), static_cast<long long>(identity.vocab_size), shape.vocab_size);
  }
  return {std::move(shards), options.context > 0 ? options.context : shape.context, shape.vocab_size};
}

/// How the config.json beside some weights differs from this program's architecture; empty if it agrees or
/// there is none.
std::string difference_beside(const std::filesystem::path& weights) {
  const std::filesystem::path folder = lnfree::model_folder(weights);
  if (!lnfree::path_exists(folder / "config.json")) return "";
  return lnfree::architecture_difference<Model>(folder);
}

/// The data that a checkpoint's weights were trained on, or nothing if unknown.
lnfree::ShardIdentity trained_on(const std::filesystem::path& weights) {
  const std::filesystem::path folder = lnfree::model_folder(weights);
  if (!lnfree::path_exists(folder / "trainer.json")) return {};
  return lnfree::saved_identity(lnfree::read_json_object(folder / "trainer.json"), "train");
}

/// Sets the initial weights of a run. Weights of another architecture with the same tensors are allowed, as
/// when GELU is replaced by ReLU, with a note.
void initialize(Model& model, const ProgramOptions& options, const lnfree::Windows* train) {
  const double std = options.init_std > 0 ? options.init_std : Model::config.init_std();
  model.initialize(options.training.seed, std);
  if (options.init_from.empty()) return;
  lnfree::load_weights(model, options.init_from, lnfree::ObjectiveWeights::refused,
                       lnfree::MissingParameters::initialized);
  const std::string difference = difference_beside(options.init_from);
  if (!difference.empty()) std::printf("note: %s\n", difference.c_str());
  if (train == nullptr) return;
  if (const auto before = trained_on(options.init_from), now = lnfree::tokenizer_of(train->shards());
      lnfree::tokenizers_differ(before, now)) {
    std::printf("note: %s was made with another tokenizer than %s, on which the weights were trained\n",
                lnfree::tokenizer_text(now).c_str(), lnfree::tokenizer_text(before).c_str());
  }
}

/// The options that only this program has.
std::vector<PartOption> part_options() {
  std::vector<PartOption> list = objective_flags().list();
  for (const PartOption& option : removal_flags().list()) list.push_back(option);
  return list;
}

/// Opens the file for the result, on rank 0.
ResultFile open_result(const ProgramOptions& options, const Ranks& ranks) {
  std::optional<ResultFile> file;
  on_all_ranks(ranks, [&] { file.emplace(ranks.rank() == 0 ? options.json : std::filesystem::path()); });
  return std::move(*file);
}

int plan_only(ProgramOptions options, const Ranks& ranks) {
  const ResultFile result_file = open_result(options, ranks);
  Model::Device device;
  const std::size_t free = free_for_rank(device, ranks);
  on_all_ranks(ranks, [&] { result_file.write(plan_on(device, free, options, ranks).json()); });
  return 0;
}

int evaluate_only(ProgramOptions options, const Ranks& ranks) {
  const ResultFile result_file = open_result(options, ranks);
  std::optional<lnfree::Windows> windows;
  on_all_ranks(ranks, [&] {
    windows.emplace(open_windows(options.validation, options));
    lnfree::check_same_tokenizer(trained_on(options.init_from), lnfree::tokenizer_of(windows->shards()));
  });
  Model::Device device;
  const std::size_t free = free_for_rank(device, ranks);
  std::optional<Model> model;
  on_all_ranks(ranks, [&] {
    plan_on(device, free, options, ranks);
    model.emplace(options.training.batch_size, lnfree::Purpose::evaluation, device);
    choose_observers(model->observer(), options);
    lnfree::load_weights(*model, options.init_from);
    const std::string difference = difference_beside(options.init_from);
    if (!difference.empty()) throw lnfree::Error(difference);
    print_model(*model);
  });
  const lnfree::Evaluation result = lnfree::evaluate(*model, *windows, ranks);
  std::printf("evaluation loss %.6f nats over %lld targets, perplexity %.4f\n", result.eval_loss,
              static_cast<long long>(result.targets), result.perplexity());
  on_all_ranks(ranks, [&] {
    lnfree::Json json{{"eval_loss", result.eval_loss},
                      {"perplexity", result.perplexity()},
                      {"targets", result.targets},
                      {"parameters", model->parameters().trainable()}};
    for (const auto& seen : lnfree::observations(*model)) json.update(seen);
    result_file.write(json);
  });
  return 0;
}

/// Profiles the steps of a run, with heads observed.
int profile(ProgramOptions options, const Ranks& ranks) {
  if (ranks.size() > 1)
    throw lnfree::SharedError("--profile needs a single process: start it without mpirun");
  const ResultFile result_file = open_result(options, ranks);
  const lnfree::TrainerOptions& training = options.training;
  const lnfree::Windows windows = open_windows(options.train, options);
  Model::Device device;
  plan_on(device, free_bytes(device), options, ranks);
  Model model(training.batch_size, lnfree::Purpose::training, device);
  choose_observers(model.observer(), options);
  initialize(model, options, &windows);
  objective_flags().apply(model, options.teacher);
  lnfree::AdamW optimizer(model,
                          {.weight_decay = training.weight_decay, .decay_slopes = training.decay_slopes});
  print_model(model);

  lnfree::WindowOrder order(windows.count(), training.seed, training.shuffle);
  lnfree::WindowBatch batch(training.batch_size, static_cast<int>(windows.context()));
  std::int64_t done = 0;
  const auto step = [&] {
    for (int pass = 0; pass < training.accumulate; ++pass)
      lnfree::training_pass(model, windows, order, batch, training, done, pass, true);
    ++done;
    optimizer.step(training.learning_rate);
  };
  step();  // touches all memory once
  model.device().profile.start();
  const auto start = std::chrono::steady_clock::now();
  while (done <= options.profile) step();
  const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start;

  const ProfileTable table(model.device().profile, options.profile, time.count());
  std::fputs(table.text().c_str(), stdout);
  result_file.write(table.json());
  return 0;
}

/// The first signal that asked any rank to stop.
int stop_signal_of(const Ranks& ranks) {
  const double own = signals::stop_signal;
  const std::vector<double> all = ranks.gather(std::span(&own, 1));
  return static_cast<int>(*std::max_element(all.begin(), all.end()));
}

/// Starts or resumes a run. A run of no steps, for which no data is needed, writes the initial checkpoint.
int train(ProgramOptions options, const Ranks& ranks) {
  const lnfree::TrainerOptions& training = options.training;
  std::optional<lnfree::Windows> windows, validation;
  on_all_ranks(ranks, [&] {
    if (!options.train.empty()) windows.emplace(open_windows(options.train, options));
    if (!options.validation.empty()) validation.emplace(open_windows(options.validation, options));
  });
  Model::Device device;
  const std::size_t free = free_for_rank(device, ranks);
  std::optional<Model> model;
  ProgressLine line(ranks.size() == 1);
  std::optional<Trainer> trainer;
  on_all_ranks(ranks, [&] {
    plan_on(device, free, options, ranks);
    model.emplace(training.batch_size, lnfree::Purpose::training, device);
    choose_observers(model->observer(), options);
    initialize(*model, options, windows ? &*windows : nullptr);
    if (training.steps > 0) objective_flags().apply(*model, options.teacher);
    Trainer::Parts parts = Trainer::parts(training);
    parts.schedule.name = options.schedule;
    parts.removal = removal_flags().options;
    trainer.emplace(
        *model, windows ? &*windows : nullptr, validation ? &*validation : nullptr, training, parts,
        options.out,
        Trainer::Callbacks{.on_step = [&](const lnfree::Progress& progress) { line.show(progress); },
                           .on_message = [&](const std::string& text) { line.message(text); }},
        ranks);
    print_model(*model);
  });
  signals::catch_stop();
  if (options.resume) {
    trainer->resume();
    line.message("resumed at step " + std::to_string(trainer->step()));
  } else {
    trainer->start();
  }
  const std::int64_t first_step = trainer->step();
  const auto outcome = trainer->run([] { return signals::stop_signal != 0; });
  if (const std::int64_t steps = trainer->step() - first_step; ranks.size() > 1 && steps > 0) {
    line.message("ranks: each step sent " +
                 std::to_string(trainer->bytes_moved() / static_cast<std::uint64_t>(steps)) +
                 " bytes of gradients and weights; rank 0 waited for the others for " +
                 std::to_string(ranks.seconds_waited()) + " s in total");
  }
  switch (outcome) {
    case lnfree::Outcome::finished:
      line.message("finished: " + std::to_string(trainer->step()) + " steps, checkpoint in " +
                   trainer->checkpoint_folder().string());
      return 0;
    case lnfree::Outcome::interrupted:
      line.message("stopped at step " + std::to_string(trainer->step()) + ", checkpoint in " +
                   trainer->checkpoint_folder().string() + "; continue with --resume");
      return 128 + stop_signal_of(ranks);
    case lnfree::Outcome::diverged:
      return diverged_status;
  }
  return 1;
}

/// The options of this rank. If several ranks have a message about them, only the first prints it. Returns
/// nothing on all ranks if one has nothing more to do.
std::optional<ProgramOptions> read_options(int argc, char** argv, const Ranks& ranks, int& exit_status) {
  const std::string description = "Trains a decoder-only transformer with norm " +
                                  std::string(Model::Norm::name) + " and activation " +
                                  std::string(Model::Activation::name) +
                                  " on token shards, and measures the entropy of every attention head.";
  std::optional<ProgramOptions> options;
  const auto read = [&](bool is_heard) {
    const Silence silence(STDERR_FILENO, !is_heard);
    options = parse_options(argc, argv, description, defaults(), part_options(), exit_status);
  };
  read(ranks.rank() == 0);
#if defined(LNFREE_TRAINER_MPI) || defined(LNFREE_TRAINER_NCCL)
  if (options) ranks.set_time_limit(options->rank_timeout);
#endif
  const double own = options ? -1 : exit_status;
  const std::vector<double> all = ranks.gather(std::span(&own, 1));
  const auto done = std::find_if(all.begin(), all.end(), [](double status) { return status >= 0; });
  if (done == all.end()) return options;
  if (const auto first = done - all.begin(); first != 0 && first == ranks.rank()) read(true);
  ranks.barrier();
  exit_status = static_cast<int>(*done);
  return std::nullopt;
}

/// The default number of threads of a rank: that of its processors, or its share of them if ranks are not
/// bound to any.
int threads_of_rank(const Ranks& ranks) {
  const auto processors = static_cast<int>(::sysconf(_SC_NPROCESSORS_ONLN));
  return std::min(omp_get_max_threads(), std::max(1, processors / ranks.local_size()));
}

int run(const ProgramOptions& options, const Ranks& ranks) {
  const bool trains = !options.plan_only && !options.evaluate_only && options.profile == 0;
  if (trains) return train(options, ranks);
  return options.plan_only       ? plan_only(options, ranks)
         : options.evaluate_only ? evaluate_only(options, ranks)
                                 : profile(options, ranks);
}

}  // namespace

/// Returns 0 when done, 1 after an error message, 3 if the run diverged, 4 without a GPU, 128 + signal when
/// stopped.
int main(int argc, char** argv) {
  lnfree::cpu::share_cores(argv);
  const std::string program = std::filesystem::path(argv[0]).filename();
  if constexpr (lnfree::has_ranks<Ranks>) keep_standard_streams();  // before MPI opens files
  std::optional<Ranks> joined;
  try {
    joined.emplace(join_ranks());
  } catch (const lnfree::NoDevice& error) {
    complain(program, error.what());
    return no_device_status;
  } catch (const std::exception& error) {
    complain(program, sentence_about(error));
    return 1;
  }
  const Ranks& ranks = *joined;
  const Silence silence(STDOUT_FILENO, ranks.rank() != 0);
  int exit_status = 0;
  const auto options = read_options(argc, argv, ranks, exit_status);
  if (!options) return exit_status;
  if (options->threads > 0) {
    omp_set_num_threads(options->threads);
  } else if (ranks.local_size() > 1) {
    omp_set_num_threads(threads_of_rank(ranks));
  }
  try {
    const int status = run(*options, ranks);
    ranks.barrier();  // a rank that ends with another status than 0 ends the others
    return status;
  } catch (const lnfree::SharedError& error) {
    if (ranks.rank() == 0) complain(program, error.what());
    ranks.barrier();
    return 1;
  } catch (const lnfree::NoDevice& error) {
    complain(program, error.what());
    return no_device_status;
  } catch (const std::exception& error) {
    const std::string who = ranks.size() > 1 ? "rank " + std::to_string(ranks.rank()) + ": " : "";
    complain(program, who + sentence_about(error));
#if defined(LNFREE_TRAINER_MPI) || defined(LNFREE_TRAINER_NCCL)
    if (ranks.size() > 1) ranks.abort(1);
#endif
    return 1;
  }
}
