#include "trainer_options.hpp"

#include <limits>

#include "../command_line.hpp"

std::optional<ProgramOptions> parse_options(int argc, char** argv, const std::string& description,
                                            const ProgramOptions& defaults, int& exit_status) {
  ProgramOptions options = defaults;
  lnfree::TrainerOptions& training = options.training;
  CommandLine app(description, argv);
  app.set_config("--config", "", "Read options from a TOML or INI file; the command line wins")
      ->type_name("FILE");
  app.allow_config_extras(CLI::config_extras_mode::error);

  const auto data = "Data", course = "Training", log = "Logging and checkpoints", run = "Run";
  constexpr double any = std::numeric_limits<double>::max();
  const std::string positive = "a number of 0 or more";

  app.add_value("--train", options.train, "FILE", "Token shard (.bin) to train on")->group(data);
  app.add_value("--val", options.validation, "FILE", "Token shard (.bin) to evaluate on")->group(data);
  app.add_count("--context", options.context, 0, "Tokens in a window; 0: the model's context")->group(data);
  app.add_flag("--shuffle,!--no-shuffle", training.shuffle,
               training.shuffle
                   ? "Visit the windows in a new random order each epoch (default), or in file order"
                   : "Visit the windows in a new random order each epoch, or in file order (default)")
      ->group(data);

  app.add_count("--steps", training.steps, std::int64_t{0},
                "Optimizer steps; 0 writes the initial checkpoint and stops")
      ->group(course);
  CLI::Option* const batch_size =
      app.add_count("--batch-size", training.batch_size, 1, "Windows in one pass")->group(course);
  CLI::Option* const accumulate =
      app.add_count("--accumulate", training.accumulate, 1, "Passes in one optimizer step")->group(course);
  app.add_count(
         "--step-windows", options.step_windows, 0,
         "Windows in one optimizer step, as many of them in a pass as memory holds; 0: --batch-size and "
         "--accumulate say")
      ->group(course)
      ->excludes(batch_size)
      ->excludes(accumulate);
  app.add_real("--learning-rate", training.learning_rate, any, positive, "Peak learning rate")->group(course);
  app.add_real("--warmup-ratio", training.warmup_ratio, 1, "a number from 0 to 1",
               "Share of the steps that warm up")
      ->group(course);
  app.add_real("--weight-decay", training.weight_decay, any, positive,
               "Weight decay of matrices and embeddings")
      ->group(course);
  app.add_flag("--decay-slopes,!--no-decay-slopes", training.decay_slopes,
               training.decay_slopes ? "Learnable slopes decay like matrices (default), or not"
                                     : "Learnable slopes decay like matrices, or not (default)")
      ->group(course);
  app.add_real("--dropout", training.dropout, 0.999, "a number from 0 to 0.999", "Dropout of the embedding")
      ->group(course);
  app.add_real("--init-std", options.init_std, any, positive,
               "Standard deviation of the initial weights; 0: 0.02 sqrt(768 / width)")
      ->group(course);
  app.add_count("--seed", training.seed, std::uint64_t{0}, "Seed of weights, order and dropout")
      ->group(course);

  app.add_count("--log-every", training.log_every, std::int64_t{0},
                "Steps between lines of metrics; 0: never")
      ->group(log);
  app.add_count("--observe-every", training.observe_every, std::int64_t{0},
                "Steps between observations of the heads; 0: never")
      ->group(log);
  app.add_count("--eval-every", training.eval_every, std::int64_t{0},
                "Steps between evaluations, besides the last; 0: none at all")
      ->group(log);
  app.add_count("--checkpoint-every", training.checkpoint_every, std::int64_t{0},
                "Steps between checkpoints, besides the first and last; 0: none")
      ->group(log);

  app.add_value("--out", options.out, "DIR", "Folder of the run: metrics.jsonl and checkpoint/")->group(run);
  CLI::Option* const resume =
      app.add_flag("--resume", options.resume, "Go on from the checkpoint in --out")->group(run);
  CLI::Option* const init_from =
      app.add_value("--init-from", options.init_from, "FILE",
                    "Start from the weights of this .safetensors file; not with --resume")
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
  app.add_value("--json", options.json, "FILE",
                "Write the result of --evaluate-only, --plan-only or --profile to this file")
      ->group(run);
  app.add_count("--threads", options.threads, 0, "Threads; 0: OMP_NUM_THREADS, or one for each core")
      ->group(run);

  app.callback([&] {
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
