#include "trainer_options.hpp"

#include <algorithm>
#include <limits>
#include <string>
#include <string_view>
#include <type_traits>

#include "../command_line.hpp"

namespace {

/// The values that an option accepts.
struct Limits {
  double least = 0;
  double most = std::numeric_limits<double>::max();
};

/// The limits of options that accept other values than any number of 0 or more.
Limits limits_of(std::string_view name) {
  if (name == "batch_size" || name == "accumulate") return {.least = 1};
  if (name == "warmup_ratio" || name == "removal_from" || name == "removal_to") return {.most = 1};
  if (name == "dropout") return {.most = 0.999};
  if (name == "beta1" || name == "beta2") return {.most = 0.99999};
  return {};
}

/// The flag of an option of lnfree::TrainerOptions, made from its line in for_each.
template <class T>
void add_training_option(CommandLine& app, const std::string& name, T& value, const std::string& help,
                         const std::string& group) {
  std::string flag = "--" + name;
  std::replace(flag.begin(), flag.end(), '_', '-');
  const Limits limits = limits_of(name);
  CLI::Option* option = nullptr;
  if constexpr (std::is_same_v<T, bool>) {
    const std::string flags = flag + ",!--no-" + flag.substr(2);
    const std::string text = help + (value ? " (default), or not" : ", or not (default)");
    option = app.add_flag(flags, value, text);
  } else if constexpr (std::is_integral_v<T>) {
    option = app.add_count(flag.c_str(), value, static_cast<T>(limits.least), help.c_str());
  } else if constexpr (std::is_floating_point_v<T>) {
    option = app.add_real(flag.c_str(), value, help.c_str(), limits.most);
  } else {
    option = app.add_value(flag.c_str(), value, "TEXT", help.c_str());
  }
  option->group(group);
}

}  // namespace

std::optional<ProgramOptions> parse_options(int argc, char** argv, const std::string& description,
                                            const ProgramOptions& defaults,
                                            const std::vector<PartOption>& of_parts, int& exit_status) {
  ProgramOptions options = defaults;
  lnfree::TrainerOptions& training = options.training;
  CommandLine app(description, argv);
  app.set_config("--config", "", "Read options from a TOML or INI file; the command line takes precedence")
      ->type_name("FILE");
  app.allow_config_extras(CLI::config_extras_mode::error);

  const auto data = "Data", course = "Training", log = "Logging and checkpoints", run = "Run";
  app.add_value(
         "--train", options.train, "FILE...",
         "Token shards (.bin) to train on, or patterns such as 'data/train_*.bin', in the order of their "
         "names")
      ->group(data);
  app.add_value("--val", options.validation, "FILE...", "Token shards (.bin) to evaluate on, likewise")
      ->group(data);
  app.add_count("--vocab-size", options.vocab_size, std::int64_t{0},
                "Vocabulary of shards without a header, such as nanoGPT's; 0: from the meta.json beside them",
                std::int64_t{1} << 24)
      ->group(data);
  app.add_count("--context", options.context, 0, "Tokens in a window; 0: the model's context")->group(data);
  lnfree::TrainerOptions::for_each(
      training, [&](const char* name, auto& value, const char* help, lnfree::Course part) {
        add_training_option(app, name, value, help, part == lnfree::Course::part ? course : log);
      });
  for (const PartOption& option : of_parts) {
    std::visit([&](auto* value) { add_training_option(app, option.name, *value, option.help, course); },
               option.value);
  }
  app.add_value("--teacher", options.teacher, "DIR",
                "Checkpoint of the model to learn from, in a program whose objective is distillation")
      ->group(course);
  app.add_flag("--observe-signal", options.observe_signal,
               "Also observe the tokens' mean cosine and the stream's effective rank, by layer (CPU)")
      ->group(log);
  app.add_flag("--observe-weights", options.observe_weights,
               "Also observe the largest singular value of each weight matrix (CPU)")
      ->group(log);
  CLI::Option* const batch_size = app.get_option("--batch-size");
  CLI::Option* const accumulate = app.get_option("--accumulate");
  app.add_count("--step-windows", options.step_windows, 0,
                "Windows in one optimizer step, with --batch-size of them in a pass or else as many as fit "
                "in memory; 0: given by --batch-size and --accumulate")
      ->group(course)
      ->excludes(accumulate);
  const auto& schedules = lnfree::ChosenSchedule::names;
  app.add_value(
         "--schedule", options.schedule, "NAME",
         "How the learning rate falls after the warm-up: linear, cosine, or stable_decay, constant until "
         "the last fifth")
      ->capture_default_str()
      ->check([&](const std::string& name) {
        return std::find(schedules.begin(), schedules.end(), name) != schedules.end()
                   ? ""
                   : "linear, cosine or stable_decay was expected, not " + name;
      })
      ->group(course);
  app.add_real("--init-std", options.init_std,
               "Standard deviation of the initial weights; 0: 0.02 sqrt(768 / width)")
      ->group(course);
  app.add_value("--out", options.out, "DIR", "Folder of the run: metrics.jsonl and checkpoint/")->group(run);
  CLI::Option* const resume =
      app.add_flag("--resume", options.resume, "Resume from the checkpoint in --out")->group(run);
  CLI::Option* const init_from =
      app.add_value(
             "--init-from", options.init_from, "PATH",
             "Start from the weights in a .safetensors file or in the folder of a model; not with --resume")
          ->group(run)
          ->excludes(resume);
  CLI::Option* const evaluate_only =
      app.add_flag("--evaluate-only", options.evaluate_only, "Evaluate --init-from on --val and stop")
          ->group(run)
          ->needs(init_from);
  CLI::Option* const plan_only =
      app.add_flag("--plan-only", options.plan_only,
                   "Print the device, the memory needed and free, and the batch, and stop")
          ->group(run);
  app.add_count("--profile", options.profile, 1,
                "Time N steps primitive by primitive, print the table and stop; nothing is trained or saved")
      ->default_str("")
      ->group(run)
      ->excludes(resume)
      ->excludes(evaluate_only)
      ->excludes(plan_only);
  app.add_output("--json", options.json, "FILE",
                 "Write the result of --evaluate-only, --plan-only or --profile to this file")
      ->group(run);
  app.add_count("--threads", options.threads, 0, "Threads; 0: OMP_NUM_THREADS, or one for each core")
      ->group(run);
  if (options.for_ranks) {
    app.add_real("--rank-timeout", options.rank_timeout,
                 "Seconds that a process waits for the others before all end")
        ->group(run);
  }

  app.callback([&] {
    if (training.zero && !options.for_ranks)
      throw CLI::ValidationError(
          "--zero needs a program for several processes, whose name ends in _mpi or _nccl");
    if (batch_size->count() > 0 && app.get_option("--step-windows")->count() > 0 &&
        options.step_windows > 0) {
      if (options.step_windows % training.batch_size != 0) {
        throw CLI::ValidationError("--step-windows " + std::to_string(options.step_windows) +
                                   " is not a multiple of --batch-size " +
                                   std::to_string(training.batch_size));
      }
      training.accumulate = options.step_windows / training.batch_size;
    }
    if (batch_size->count() + accumulate->count() > 0) options.step_windows = 0;
    if (options.plan_only) return;
    if (options.evaluate_only) {
      if (options.validation.empty()) throw CLI::ValidationError("--evaluate-only needs --val FILE");
    } else if (options.profile > 0) {
      if (options.train.empty()) throw CLI::ValidationError("--profile needs --train FILE, a token shard");
    } else {
      if (!options.json.empty()) {
        throw CLI::ValidationError("--json needs --evaluate-only, --plan-only or --profile");
      }
      if (options.out.empty()) throw CLI::ValidationError("--out DIR, the folder of the run, is required");
      if (options.train.empty() && training.steps > 0)
        throw CLI::ValidationError("--train FILE, a token shard, is required");
    }
  });
  if (const auto status = app.read(argc, argv)) {
    exit_status = *status;
    return std::nullopt;
  }
  return options;
}
