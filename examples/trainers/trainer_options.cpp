#include "trainer_options.hpp"

#include <CLI/CLI.hpp>

std::optional<ProgramOptions> parse_options(int argc, char** argv, const std::string& description,
                                            const lnfree::TrainerOptions& defaults, int& exit_status) {
  ProgramOptions options;
  options.training = defaults;
  lnfree::TrainerOptions& training = options.training;
  CLI::App app(description);
  app.option_defaults()->always_capture_default();
  app.set_config("--config", "", "Read options from a TOML or INI file; the command line wins");

  const auto data = "Data", course = "Training", log = "Logging and checkpoints", run = "Run";
  const auto no_default = [](CLI::Option* option) { return option->default_str(""); };
  no_default(app.add_option("--train", options.train, "Token shard (.bin) to train on"))->group(data);
  no_default(app.add_option("--val", options.validation, "Token shard (.bin) to evaluate on"))->group(data);
  app.add_flag("--shuffle,!--no-shuffle", training.shuffle,
               "Visit the windows in a new random order each epoch, or in file order")
      ->default_str(training.shuffle ? "true" : "false")
      ->group(data);

  app.add_option("--steps", training.steps, "Optimizer steps; 0 writes the initial checkpoint and stops")
      ->check(CLI::NonNegativeNumber)
      ->group(course);
  app.add_option("--batch-size", training.batch_size, "Windows in one pass")
      ->check(CLI::PositiveNumber)
      ->group(course);
  app.add_option("--accumulate", training.accumulate, "Passes in one optimizer step")
      ->check(CLI::PositiveNumber)
      ->group(course);
  app.add_option("--learning-rate", training.learning_rate, "Peak learning rate")
      ->check(CLI::NonNegativeNumber)
      ->group(course);
  app.add_option("--warmup-ratio", training.warmup_ratio, "Share of the steps that warm up")
      ->check(CLI::Range(0.0, 1.0))
      ->group(course);
  app.add_option("--weight-decay", training.weight_decay, "Weight decay of matrices and embeddings")
      ->check(CLI::NonNegativeNumber)
      ->group(course);
  app.add_option("--dropout", training.dropout, "Dropout of the embedding")
      ->check(CLI::Range(0.0, 0.999))
      ->group(course);
  app.add_option("--init-std", training.init_std,
                 "Standard deviation of the initial weights; 0: 0.02 sqrt(768 / width)")
      ->check(CLI::NonNegativeNumber)
      ->group(course);
  app.add_option("--seed", training.seed, "Seed of weights, order and dropout")->group(course);

  app.add_option("--log-every", training.log_every, "Steps between lines of metrics; 0: never")
      ->check(CLI::NonNegativeNumber)
      ->group(log);
  app.add_option("--observe-every", training.observe_every,
                 "Steps between observations of the heads; 0: never")
      ->check(CLI::NonNegativeNumber)
      ->group(log);
  app.add_option("--eval-every", training.eval_every,
                 "Steps between evaluations, besides the last; 0: none at all")
      ->check(CLI::NonNegativeNumber)
      ->group(log);
  app.add_option("--checkpoint-every", training.checkpoint_every,
                 "Steps between checkpoints, besides the first and last")
      ->check(CLI::NonNegativeNumber)
      ->group(log);

  no_default(app.add_option("--out", options.out, "Folder of the run: metrics.jsonl and checkpoint/"))
      ->group(run);
  CLI::Option* const resume =
      app.add_flag("--resume", options.resume, "Go on from the checkpoint in --out")->group(run);
  CLI::Option* const init_from =
      no_default(app.add_option("--init-from", options.init_from,
                                "Start from the weights of this .safetensors file"))
          ->group(run)
          ->excludes(resume);
  CLI::Option* const evaluate_only =
      app.add_flag("--evaluate-only", options.evaluate_only, "Evaluate --init-from on --val and stop")
          ->group(run)
          ->needs(init_from);
  no_default(app.add_option("--json", options.json, "Write the result of --evaluate-only to this file"))
      ->group(run)
      ->needs(evaluate_only);
  no_default(
      app.add_option("--threads", options.threads, "Threads; 0: OMP_NUM_THREADS, or one for each core"))
      ->check(CLI::NonNegativeNumber)
      ->group(run);

  app.callback([&] {
    if (options.evaluate_only) {
      if (options.validation.empty()) throw CLI::RequiredError("--evaluate-only needs --val SHARD: --val");
    } else {
      if (options.out.empty()) throw CLI::RequiredError("--out (the folder of the run)");
      if (options.train.empty() && training.steps > 0) throw CLI::RequiredError("--train (a token shard)");
    }
  });
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    exit_status = app.exit(error);
    return std::nullopt;
  }
  return options;
}
