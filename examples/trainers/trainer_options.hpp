#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include <lnfree/optim/schedule.hpp>
#include <lnfree/train/trainer_options.hpp>

/// The options of a trainer program.
struct ProgramOptions {
  lnfree::TrainerOptions training;
  std::string schedule{lnfree::LinearDecay::name};  ///< Learning-rate schedule, one of ChosenSchedule's.
  int step_windows = 0;                      ///< Windows of a step, split to fit memory; 0: from `training`.
  std::vector<std::filesystem::path> train;  ///< Token shards to train on, or patterns for them.
  std::vector<std::filesystem::path> validation;  ///< Token shards to evaluate on, likewise.
  std::int64_t vocab_size = 0;      ///< Vocabulary of shards without a header; 0: from a file beside them.
  std::filesystem::path out;        ///< Folder of the run.
  std::filesystem::path teacher;    ///< Checkpoint that the model learns from.
  std::filesystem::path init_from;  ///< model.safetensors to start from or to evaluate.
  std::filesystem::path json;       ///< File for the result of programs that do not train.
  double init_std = 0;           ///< Standard deviation of the initial weights; 0: DecoderConfig::init_std().
  int context = 0;               ///< Tokens in a window; 0: the model's context.
  bool observe_signal = false;   ///< Whether the stream's cosine and effective rank are observed.
  bool observe_weights = false;  ///< Whether the weights' largest singular values are observed.
  bool resume = false;
  bool evaluate_only = false;
  bool plan_only = false;
  int profile = 0;         ///< Steps to be timed primitive by primitive, instead of a run; 0: none.
  int threads = 0;         ///< 0: all cores.
  bool for_ranks = false;  ///< Whether the program may run as several processes, and so has the next option.
  double rank_timeout = 600;  ///< Seconds that a rank waits for the others before all end.
};

/// An option of the program's objective or of the removal of its norms, with its line in --help.
struct PartOption {
  const char* name;
  std::variant<double*, bool*, std::int64_t*, std::string*> value;
  const char* help;
};

/// Reads the command line over `defaults`, and the options of the program's parts. Returns nothing after
/// --help or an error message on standard error; `exit_status` then tells which.
std::optional<ProgramOptions> parse_options(int argc, char** argv, const std::string& description,
                                            const ProgramOptions& defaults,
                                            const std::vector<PartOption>& of_parts, int& exit_status);
