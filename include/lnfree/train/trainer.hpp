#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include <lnfree/core/excerpt.hpp>
#include <lnfree/core/json.hpp>
#include <lnfree/core/math.hpp>
#include <lnfree/core/new_folder.hpp>
#include <lnfree/data/windows.hpp>
#include <lnfree/nn/weights_fingerprint.hpp>
#include <lnfree/optim/adamw.hpp>
#include <lnfree/optim/optimizer.hpp>
#include <lnfree/optim/schedule.hpp>
#include <lnfree/parallel/communicator.hpp>
#include <lnfree/parallel/data_parallel.hpp>
#include <lnfree/train/checkpoint.hpp>
#include <lnfree/train/evaluate.hpp>
#include <lnfree/train/metrics.hpp>
#include <lnfree/train/norm_removal.hpp>
#include <lnfree/train/observations.hpp>
#include <lnfree/train/run_course.hpp>
#include <lnfree/train/shard_identity.hpp>
#include <lnfree/train/trainer_options.hpp>
#include <lnfree/train/window_batch.hpp>

namespace lnfree {

/// An optimizer's options set from `options` by name; the others keep their defaults.
template <class Options>
Options optimizer_options(const TrainerOptions& options) {
  Options chosen;
  if constexpr (requires { chosen.weight_decay; }) chosen.weight_decay = options.weight_decay;
  if constexpr (requires { chosen.decay_slopes; }) chosen.decay_slopes = options.decay_slopes;
  if constexpr (requires { chosen.max_gradient_norm; }) chosen.max_gradient_norm = options.max_gradient_norm;
  if constexpr (std::is_same_v<Options, AdamWOptions>) {
    chosen.beta1 = options.beta1;
    chosen.beta2 = options.beta2;
    chosen.epsilon = options.epsilon;
  }
  if constexpr (requires { chosen.rest; }) chosen.rest = optimizer_options<AdamWOptions>(options);
  return chosen;
}

/// One pass of an optimizer step, over the next windows in the order of the run. Adds its gradient to the
/// model's, weighted as a share of the step's mean loss. Returns the mean loss of the pass.
template <class Model>
double training_pass(Model& model, const Windows& windows, const WindowOrder& order, WindowBatch& memory,
                     const TrainerOptions& options, std::int64_t step, std::int64_t pass, bool observe) {
  const std::int64_t draw = step * options.accumulate + pass;
  for (int row = 0; row < options.batch_size; ++row) {
    memory.read(windows, order(draw * options.batch_size + row), row);
  }
  return model.forward_backward(memory.batch(options.batch_size),
                                {.gradient_scale = 1.0 / options.accumulate,
                                 .dropout = {options.dropout, options.seed, static_cast<std::uint64_t>(draw)},
                                 .observe = observe});
}

/// How a call of Trainer::run ended.
enum class Outcome {
  finished,     ///< All steps are done.
  interrupted,  ///< `stop` returned true; a checkpoint is saved.
  diverged      ///< Loss or gradient is not finite; the last checkpoint is from before.
};

/// The state of a run after a step, for display.
struct Progress {
  std::int64_t step = 0;         ///< Steps done.
  std::int64_t steps = 0;        ///< Steps of the whole run.
  double loss = 0;               ///< Loss of the step's batch before the update, in nats.
  double learning_rate = 0;      ///< Learning rate of this step.
  double gradient_norm = 0;      ///< Gradient norm of all parameters together, before clipping.
  double tokens_per_second = 0;  ///< Speed since the last logged step.
  double seconds_left = 0;       ///< Time to the end at this speed.
  bool logged = false;           ///< Whether this step is also in the metrics.
};

/// Trains a model on windows of tokens. Each run has a folder, which holds metrics.jsonl and checkpoint/. A
/// resumed run gives the same bits as one that was never interrupted.
///
///   OptimizerPolicy   AdamW, Muon, or your own (docs/change.md)
///   SchedulePolicy    WarmupLinearSchedule, WarmupCosineSchedule, WarmupStableDecaySchedule, ChosenSchedule,
///                     or your own
///   Ranks             SingleProcess, or processes that share the passes of each step: Mpi or Nccl
///
/// Each rank has a trainer. All call the same members, and rank 0 writes and reports (docs/parallel.md).
template <class Model, template <class> class OptimizerPolicy = AdamW,
          class SchedulePolicy = WarmupLinearSchedule, Communicator Ranks = SingleProcess>
class Trainer {
 public:
  /// How weights are updated.
  using Optimizer = OptimizerPolicy<Model>;
  /// The learning rate of each step.
  using Schedule = SchedulePolicy;
  static_assert(
      lnfree::Optimizer<Optimizer, Model>,
      "lnfree: an optimizer must derive from OptimizerBase<Model> and offer name, Options, "
      "bytes(plan), a constructor from a model and Options, and double step(rate) (docs/change.md)");
  static_assert(lnfree::Schedule<Schedule>,
                "lnfree: a schedule must offer name and double operator()(std::int64_t step) const "
                "(docs/change.md)");

  /// Called during the run. All may be empty.
  struct Callbacks {
    /// After each step.
    std::function<void(const Progress&)> on_step = {};
    std::function<void(const std::string&)> on_message = {};  ///< Evaluations, checkpoints: one line each.
    /// After each evaluation.
    std::function<void(std::int64_t step, const Evaluation&)> on_evaluation = {};
  };

  /// Whether the model's norms are removed during training.
  static constexpr bool removes_norms = HasRemovableNorms<Model>;

  /// How the weights are updated, the learning rate of each step, and when norms are removed.
  struct Parts {
    /// The optimizer's settings.
    typename Optimizer::Options optimizer;
    /// The schedule's settings.
    Schedule schedule;
    /// When norms are removed; empty if the model's are not.
    std::conditional_t<removes_norms, NormRemovalOptions, std::monostate> removal{};
  };

  /// The parts set from the options: the optimizer's settings, and the schedule's peak, warm-up and number of
  /// steps.
  static Parts parts(const TrainerOptions& options) {
    Parts parts{optimizer_options<typename Optimizer::Options>(options), Schedule{}};
    if constexpr (requires { parts.schedule.peak; }) parts.schedule.peak = options.learning_rate;
    if constexpr (requires { parts.schedule.warmup_ratio; })
      parts.schedule.warmup_ratio = options.warmup_ratio;
    if constexpr (requires { parts.schedule.steps; }) parts.schedule.steps = options.steps;
    return parts;
  }

  /// `train` may be null in a run of no steps. `validation` may be null: then nothing is evaluated. The
  /// windows may be shorter than the model's context. Throws Error for options that do not fit the model, and
  /// if the two shards are known to be of different tokenizers.
  Trainer(Model& model, const Windows* train, const Windows* validation, TrainerOptions options,
          std::filesystem::path folder, Callbacks callbacks = {}, Ranks ranks = Ranks{})
      : Trainer(model, train, validation, options, parts(options), std::move(folder), std::move(callbacks),
                std::move(ranks)) {}

  /// The same with the given parts, which override the options.
  Trainer(Model& model, const Windows* train, const Windows* validation, TrainerOptions options, Parts parts,
          std::filesystem::path folder, Callbacks callbacks = {}, Ranks ranks = Ranks{})
      : model_(model),
        train_(train),
        validation_(validation),
        options_(std::move(options)),
        folder_(std::move(folder)),
        callbacks_(std::move(callbacks)),
        parts_(std::move(parts)),
        ranks_(std::move(ranks)),
        parallel_(model, ranks_, options_.accumulate, has_whole_matrices()),
        optimizer_(make_optimizer()),
        removal_(make_removal()),
        order_(windows(), options_.seed, options_.shuffle),
        memory_(options_.batch_size, static_cast<int>(context())) {
    if (train == nullptr && options_.steps > 0) throw Error("training needs a token shard");
    if (options_.batch_size < 1 || options_.batch_size > model.max_batch()) {
      throw Error("a batch_size of " + std::to_string(options_.batch_size) +
                  " does not fit a model that was built for up to " + std::to_string(model.max_batch()) +
                  " windows");
    }
    for (const Windows* given : {train, validation}) {
      if (given == nullptr || given->context() <= Model::config.context) continue;
      throw Error("windows of " + std::to_string(given->context()) +
                  " tokens are longer than the model's context of " + std::to_string(Model::config.context));
    }
    if (train != nullptr) train_data_ = identity_of(train->shards());
    if (validation != nullptr) validation_data_ = identity_of(validation->shards());
    check_same_tokenizer(train_data_, validation_data_);
  }

  /// The folder of the run's checkpoint.
  std::filesystem::path checkpoint_folder() const { return folder_ / "checkpoint"; }

  /// Starts a run from the model's present weights and writes the first checkpoint. Throws Error if the
  /// weights were never set, or if the folder already holds a run; nothing is overwritten.
  void start() {
    on_all_ranks(ranks_, [&] { model_.parameters().require_values(model_.device()); });
    require_equal_ranks();
    on_all_ranks(ranks_, [&] {
      if (is_first()) open_folder();
    });
    has_begun_ = true;
    save();
  }

  /// Continues from the folder's checkpoint. If metrics are missing, as when only the checkpoint was copied,
  /// it gives a message and continues. Throws Error if there is no checkpoint, or if it was made with
  /// other options, another training shard, or another validation shard, whose losses would not continue the
  /// curve. A copy of a shard counts as the same shard.
  void resume() {
    Json state;
    std::int64_t step = 0, metrics_bytes = 0, metrics_found = 0;
    std::unique_ptr<MetricsLog> metrics;
    on_all_ranks(ranks_, [&] {
      state = checked_state();
      step = checkpoint_count(checkpoint_folder(), state, "step", options_.steps);
      metrics_bytes = checkpoint_count(checkpoint_folder(), state, "metrics_bytes");
      if (const auto updates = checkpoint_count(checkpoint_folder(), state, "updates"); updates != step) {
        throw Error((checkpoint_folder() / "trainer.json").string() + " is damaged: it has " +
                    std::to_string(updates) + " updates after " + std::to_string(step) + " steps");
      }
    });
    on_all_ranks(ranks_, [&] {
      if (!is_first()) return;
      metrics = std::make_unique<MetricsLog>(folder_ / "metrics.jsonl");
      // From here on no other process can write the run, but one may have done so until now.
      if (read_checkpoint_state(checkpoint_folder()) != state) {
        throw Error("another process has just saved a newer checkpoint in " + checkpoint_folder().string() +
                    "; resume once more");
      }
      recover_checkpoint(checkpoint_folder());
      remove_part(checkpoint_folder());
    });
    on_all_ranks(ranks_, [&] {
      load_checkpoint(checkpoint_folder(), model_, optimizer_);
      if constexpr (has_target) {
        const Json target = state.value("target", Json(0));
        if (!target.is_number() || !(target.get<double>() >= 0)) {
          throw Error((checkpoint_folder() / "trainer.json").string() + " is damaged: its target is " +
                      excerpt(target.dump()) + ", a number of 0 or more was expected");
        }
        model_.objective().set_target(target.get<double>());
      }
    });
    require_equal_ranks();
    on_all_ranks(ranks_, [&] {
      if (!is_first()) return;
      metrics_found = metrics->bytes();
      metrics->keep(metrics_bytes);
    });
    step_ = step;
    has_begun_ = true;
    metrics_ = std::move(metrics);
    const bool is_complete = !is_first() || metrics_->bytes() == metrics_bytes;
    if (!on_any_rank(ranks_, !is_complete)) return;
    message("note: " + (folder_ / "metrics.jsonl").string() + " held " + std::to_string(metrics_found) +
            " bytes where the checkpoint expects " + std::to_string(metrics_bytes) +
            ": lines of the steps before " + std::to_string(step_) +
            " are missing; the run continues without them");
    save();  // with the present length of the metrics
  }

  /// Trains until all steps are done, or `stop` returns true between two steps, or the loss is no longer
  /// finite.
  Outcome run(const std::function<bool()>& stop = [] { return false; }) {
    if (!has_begun_) throw Error("a run begins with start() or resume()");
    if constexpr (removes_norms) {
      removal_.read();
      removal_.set_gates(step_);
    }
    const double tokens_per_step =
        static_cast<double>(options_.batch_size) * options_.accumulate * static_cast<double>(context());
    SpeedMeter meter(tokens_per_step);
    while (step_ < options_.steps) {
      if (on_any_rank(ranks_, stop())) {
        save();
        return Outcome::interrupted;
      }
      const double rate = parts_.schedule(step_);
      const StepPasses passes = run_passes();
      const double norm = optimizer_.step(rate);
      if (!math::is_finite(passes.loss) || !math::is_finite(norm)) {
        if constexpr (has_ranks<Ranks>) {
          if (shares_state()) parallel_.complete_gradients();
        }
        report_divergence(passes.loss, norm, passes.faulty_rank);
        return Outcome::diverged;
      }
      finish_update(passes);
      const bool logs = due(step_, options_.log_every) || step_ + 1 == options_.steps;
      const double speed = meter.after_step(/*measures=*/logs);
      if (logs) {
        Json line{{"kind", "train"},       {"step", step_},         {"loss", passes.loss},
                  {"learning_rate", rate}, {"gradient_norm", norm}, {"tokens_per_second", speed}};
        if constexpr (removes_norms) line["norm_gate"] = removal_.gate();
        log(line);
        meter.restart();
      }
      ++step_;
      if constexpr (removes_norms) removal_.set_gates(step_);
      if (callbacks_.on_step && is_first()) {
        const double left = tokens_per_step * static_cast<double>(options_.steps - step_) / speed;
        callbacks_.on_step({step_, options_.steps, passes.loss, rate, norm, speed, left, logs});
      }
      meter.pause([&] {
        const bool last = step_ == options_.steps;
        const bool evaluates = options_.eval_every > 0 && (last || due(step_, options_.eval_every));
        if (validation_ != nullptr && evaluates) write_evaluation();
        if (last || due(step_, options_.checkpoint_every)) save();
      });
    }
    return Outcome::finished;
  }

  /// Steps done so far.
  std::int64_t step() const { return step_; }

  /// Bytes of gradients and weights that this rank has sent in all steps of this object.
  std::uint64_t bytes_moved() const { return parallel_.bytes_moved(); }

 private:
  /// The speed since the last logged step, without the time of evaluations and checkpoints.
  class SpeedMeter {
   public:
    explicit SpeedMeter(double tokens_per_step) : tokens_per_step_(tokens_per_step) {}

    /// Counts a step. Returns the tokens per second, as of this step if it `measures` or is the first, or
    /// else as of the last one that did.
    double after_step(bool measures) {
      ++steps_;
      if (measures || speed_ == 0) {
        const std::chrono::duration<double> time = Clock::now() - since_;
        speed_ = tokens_per_step_ * static_cast<double>(steps_) / time.count();
      }
      return speed_;
    }

    /// Begins to measure anew.
    void restart() {
      since_ = Clock::now();
      steps_ = 0;
    }

    /// Calls body(), whose time does not count.
    template <class Body>
    void pause(const Body& body) {
      const auto begin = Clock::now();
      body();
      since_ += Clock::now() - begin;
    }

   private:
    using Clock = std::chrono::steady_clock;

    double tokens_per_step_;
    double speed_ = 0;
    Clock::time_point since_ = Clock::now();
    std::int64_t steps_ = 0;
  };

  /// What the passes of one step gave.
  struct StepPasses {
    double loss = 0;                   // the mean over the passes of all ranks
    int faulty_rank = -1;              // the first rank with numbers that are not finite, -1 if none
    std::vector<double> of_norms;      // for NormRemoval::set_scales(), of this rank
    std::vector<double> of_objective;  // for update_target() of the objective, of this rank
  };

  static constexpr bool takes_share =
      std::constructible_from<Optimizer, Model&, typename Optimizer::Options, Share>;

  static constexpr bool has_whole_matrices() {
    if constexpr (requires { Optimizer::whole_matrices; }) return Optimizer::whole_matrices;
    return false;
  }

  /// Whether the objective compares the model with what it was.
  static constexpr bool has_target = HasTarget<typename Model::Objective>;

  /// Whether a norm of the model is still whole.
  bool norms_are_left() const {
    if constexpr (removes_norms) return removal_.measures();
    return true;
  }

  bool is_first() const { return ranks_.rank() == 0; }

  /// Whether the ranks shard the optimizer's state.
  bool shares_state() const { return has_ranks<Ranks> && options_.zero && ranks_.size() > 1; }

  Optimizer make_optimizer() {
    if constexpr (has_ranks<Ranks> && takes_share) {
      return Optimizer(model_, parts_.optimizer, parallel_.share(shares_state()));
    } else {
      if (shares_state()) {
        throw Error("the optimizer " + std::string(Optimizer::name) +
                    " cannot be sharded over ranks: its constructor takes no Share; train without zero");
      }
      return Optimizer(model_, parts_.optimizer);
    }
  }

  auto make_removal() {
    if constexpr (removes_norms) {
      return NormRemoval<Model>(model_, parts_.removal, Model::Norm::removal, options_.steps);
    } else {
      return std::monostate();
    }
  }

  /// Throws Error unless all ranks have the same options, data and weights.
  void require_equal_ranks() {
    if constexpr (has_ranks<Ranks>) {
      Json run = course();
      TrainerOptions::for_each(
          options_, [&](const char* name, const auto& value, const char*, Course) { run[name] = value; });
      run["step"] = step_;
      run["data"] = {train_data_.tokens, validation_data_.tokens};
      parallel_.require_equal(run.dump(), "was started with other options or other shards");
      parallel_.require_equal(weights_fingerprint(model_), "has other weights");
    }
  }

  /// Creates the folder of a new run and its metrics.
  void open_folder() {
    NewFolder folder(folder_);
    const auto refuse_a_run = [&](bool holds_one) {
      if (holds_one)
        throw Error(folder_.string() +
                    " already holds a run; resume it (--resume), or choose another folder");
    };
    refuse_a_run(path_exists(present_checkpoint(checkpoint_folder())));
    // A run that was killed before its first checkpoint leaves an empty metrics file.
    auto metrics = std::make_unique<MetricsLog>(folder_ / "metrics.jsonl");
    refuse_a_run(metrics->bytes() > 0);
    metrics->keep(0);
    metrics_ = std::move(metrics);
    folder.keep();
  }

  /// The state of the checkpoint in the folder. Throws Error if this run cannot be resumed from it.
  Json checked_state() {
    const std::filesystem::path folder = checkpoint_folder();
    Json state = read_checkpoint_state(folder);
    Json saved = implied_course<Model>();
    if (state.contains("course") && state["course"].is_object()) saved.update(state["course"]);
    if (check_same_course(folder, saved, course(), options_.extend)) {
      message("note: the run is extended to " + std::to_string(options_.steps) +
              " steps; it was started with " + saved["steps"].dump());
    }
    if (const auto windows_then = checkpoint_count(folder, state, "windows"); windows_then != windows()) {
      throw Error(folder.string() + " was made with " + std::to_string(windows_then) +
                  " training windows, but the given shard has " + std::to_string(windows()) +
                  "; resume with the same one");
    }
    const auto check_data = [&](ShardIdentity& given, const char* which, const char* purpose) {
      const ShardIdentity before = saved_identity(state, which);  // earlier versions stored none
      check_same_shards(folder, before, given, purpose);
      if (given.path.empty()) given = before;  // keep it through a run without evaluation
    };
    check_data(train_data_, "train", "trained");
    check_data(validation_data_, "validation", "evaluated");
    return state;
  }

  /// Computes the gradients of the present step, and writes its observations if they are due.
  StepPasses run_passes() {
    const bool observes = due(step_, options_.observe_every);
    StepPasses result;
    const auto passes = parallel_.gradients(observes, shares_state(), [&](std::int64_t pass) {
      const double loss = training_pass(model_, *train_, order_, memory_, options_, step_, pass, observes);
      if constexpr (removes_norms) removal_.measure(options_.batch_size * context(), result.of_norms);
      if constexpr (has_target) model_.objective().measure(result.of_objective);
      return loss;
    });
    for (const double of_pass : passes.losses) result.loss += of_pass;
    result.loss /= options_.accumulate;
    result.faulty_rank = passes.faulty_rank;
    if (observes) write_observations();
    return result;
  }

  /// Completes what depends on the optimizer's update: the weights on all ranks, the target of the objective,
  /// and the scales of norms that are removed.
  void finish_update(const StepPasses& passes) {
    if constexpr (has_ranks<Ranks>) {
      if (shares_state()) parallel_.complete_weights();
    }
    if constexpr (has_target) {
      if (norms_are_left() || !model_.objective().has_target())
        model_.objective().update_target(step_, ranks_.gather(passes.of_objective));
    }
    if constexpr (removes_norms) {
      if (removal_.measures()) removal_.set_scales(step_, ranks_.gather(passes.of_norms));
    }
  }

  /// Writes a line of metrics.jsonl, on rank 0.
  void log(const Json& line) {
    if (is_first()) metrics_->write(line);
  }

  std::int64_t windows() const { return train_ == nullptr ? 1 : train_->count(); }
  std::int64_t context() const { return train_ == nullptr ? Model::config.context : train_->context(); }

  /// What must be the same to resume the run: the options, and parts that differ from them.
  Json course() const {
    Json course = options_.course();
    course["context"] = context();
    course["leaves"] = parallel_.leaves();
    course["objective"] = Model::Objective::name;
    if constexpr (HasOptions<typename Model::Objective>) add_options(model_.objective().options(), course);
    if constexpr (LearnsFromTeacher<typename Model::Objective>)
      course["teacher"] = model_.objective().teacher_name();
    if constexpr (removes_norms) add_options(parts_.removal, course);
    course["optimizer"] = Optimizer::name;
    if constexpr (requires(const typename Optimizer::Options o) { o.for_each([](const char*, auto) {}); }) {
      parts_.optimizer.for_each([&](const char* name, auto value) { course[name] = value; });
    }
    course["schedule"] = parts_.schedule.name;
    if constexpr (requires { parts_.schedule.peak; }) course["learning_rate"] = parts_.schedule.peak;
    if constexpr (requires { parts_.schedule.warmup_ratio; })
      course["warmup_ratio"] = parts_.schedule.warmup_ratio;
    return course;
  }

  static bool due(std::int64_t step, std::int64_t every) { return every > 0 && step % every == 0; }

  void message(const std::string& text) {
    if (callbacks_.on_message && is_first()) callbacks_.on_message(text);
  }

  /// Writes the observations of the step's passes, made before the update.
  void write_observations() {
    if (!is_first()) return;
    const Json seen = observations(model_);
    for (const auto& [kind, values] : seen.items()) {
      Json line{{"kind", kind}, {"step", step_}};
      line.update(values);
      log(line);
    }
  }

  void write_evaluation() {
    const Evaluation result = evaluate(model_, *validation_, ranks_);
    if (!is_first()) return;
    Json line{{"kind", "eval"},
              {"step", step_},
              {"eval_loss", result.eval_loss},
              {"perplexity", result.perplexity()}};
    for (const auto& seen : observations(model_)) line.update(seen);
    log(line);
    if (callbacks_.on_evaluation) callbacks_.on_evaluation(step_, result);
    message("step " + std::to_string(step_) + ": evaluation loss " + std::to_string(result.eval_loss) +
            ", perplexity " + std::to_string(result.perplexity()));
  }

  /// Reports the first tensor, from the embedding up, whose gradient is not finite, and the rank that it
  /// comes from, if any.
  void report_divergence(double loss, double norm, int rank) {
    if (!is_first()) return;
    std::string where = "none";
    for (const auto& parameter : model_.parameters().all()) {
      const auto gradient =
          model_.parameters().read(model_.device(), parameter, model_.parameters().gradients());
      if (std::all_of(gradient.begin(), gradient.end(), [](auto g) { return math::is_finite(g); })) continue;
      where = parameter.name;
      break;
    }
    log({{"kind", "diverged"}, {"step", step_}, {"loss", loss}, {"gradient_norm", norm}, {"tensor", where}});
    const bool tells_rank = ranks_.size() > 1 && rank >= 0;
    message("step " + std::to_string(step_) + ": the training diverged" +
            (tells_rank ? " on rank " + std::to_string(rank) : "") + ": loss " + std::to_string(loss) +
            ", gradient norm " + std::to_string(norm) +
            "; first tensor with a gradient that is not finite: " + where +
            ". A lower learning rate, a longer warm-up or a norm may help; the checkpoint is from before");
  }

  /// Rank 0 writes; if the optimizer's state is sharded, the others send their shares.
  void save() {
    if (!is_first()) {
      if (!shares_state()) return;
      optimizer_.for_each_state([&](const std::string&, const auto& parameter, const auto* values) {
        optimizer_.read_state(parameter, values);
      });
      return;
    }
    metrics_->sync();
    Json state{{"step", step_},
               {"steps", options_.steps},
               {"windows", windows()},
               {"metrics_bytes", metrics_->bytes()},
               {"course", course()},
               {"data", {{"train", to_json(train_data_)}, {"validation", to_json(validation_data_)}}}};
    if constexpr (has_target) {
      if (model_.objective().has_target()) state["target"] = model_.objective().target();
    }
    save_checkpoint(checkpoint_folder(), model_, optimizer_, std::move(state));
  }

  Model& model_;
  const Windows* train_;
  const Windows* validation_;
  TrainerOptions options_;
  std::filesystem::path folder_;
  ShardIdentity train_data_, validation_data_;
  Callbacks callbacks_;
  Parts parts_;
  Ranks ranks_;
  DataParallel<Model, Ranks> parallel_;
  Optimizer optimizer_;
  std::conditional_t<removes_norms, NormRemoval<Model>, std::monostate> removal_;
  WindowOrder order_;
  WindowBatch memory_;
  std::unique_ptr<MetricsLog> metrics_;  // on rank 0
  bool has_begun_ = false;
  std::int64_t step_ = 0;
};

}  // namespace lnfree
