#include "lnfree/train/trainer.hpp"

#include <omp.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <cmath>
#include <functional>
#include <limits>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include <lnfree/optim/muon.hpp>

#include "train/support.hpp"

using namespace lnfree;
using namespace lnfree::test;

namespace {

/// Runs are killed in forked processes, in which OpenMP's threads do not exist, so nothing may wait for them.
struct OneThread {
  OneThread() { omp_set_num_threads(1); }
};
BOOST_GLOBAL_FIXTURE(OneThread);

using Model = TinyModel<Identity, LeakyLearnable<Scope::per_layer>>;

/// Has everything that a run's course can depend on: accumulation, dropout, several epochs with different
/// orders.
const TrainerOptions options{.steps = 7,
                             .batch_size = 2,
                             .accumulate = 3,
                             .learning_rate = 1e-2,
                             .warmup_ratio = 0.3,
                             .dropout = 0.3,
                             .seed = 11,
                             .shuffle = true,
                             .log_every = 2,
                             .observe_every = 3,
                             .eval_every = 2,
                             .checkpoint_every = 0};

struct Data {
  TemporaryFolder folder;
  Windows train{TokenShard::open(write_tokens(folder / "train.bin", 13, tiny.context, tiny.vocab_size)),
                tiny.context, tiny.vocab_size};
  Windows validation{TokenShard::open(write_tokens(folder / "val.bin", 3, tiny.context, tiny.vocab_size, 2)),
                     tiny.context, tiny.vocab_size};
};

/// A model and its trainer in `folder`.
struct Run {
  Run(const Data& data, const std::filesystem::path& folder, const TrainerOptions& chosen = options)
      : model(chosen.batch_size), trainer(model, &data.train, &data.validation, chosen, folder) {
    model.initialize(chosen.seed);
  }
  Model model;
  Trainer<Model> trainer;
};

/// metrics.jsonl without the one number that differs from run to run.
std::vector<Json> metrics(const std::filesystem::path& folder) {
  std::istringstream lines(read_file(folder / "metrics.jsonl"));
  std::vector<Json> entries;
  for (std::string line; std::getline(lines, line);) {
    entries.push_back(Json::parse(line));
    entries.back().erase("tokens_per_second");
  }
  return entries;
}

void check_same_run(const std::filesystem::path& a, const std::filesystem::path& b) {
  for (const char* file : {"model.safetensors", "optimizer.safetensors", "config.json"})
    BOOST_TEST((read_file(a / "checkpoint" / file) == read_file(b / "checkpoint" / file)),
               file << " differs");
  BOOST_TEST((metrics(a) == metrics(b)));
  for (const char* key : {"step", "updates"})
    BOOST_TEST(read_checkpoint_state(a / "checkpoint")[key] == read_checkpoint_state(b / "checkpoint")[key]);
}

/// The offset of the first slope in the parameters.
Index slope_offset(Model& model) {
  for (const auto& parameter : model.parameters().all()) {
    if (parameter.kind == ParameterKind::slope) return parameter.offset;
  }
  throw Error("the model has no slope");
}

/// Stops after `steps` steps of this call.
std::function<bool()> after(int steps) {
  return [=]() mutable { return steps-- == 0; };
}

/// Stands for a value of any type where an aggregate is counted.
struct Anything {
  template <class T>
  operator T() const;
};

/// How many members an aggregate has.
template <class T, class... Found>
constexpr int members_of() {
  if constexpr (requires { T{Found{}..., Anything{}}; }) {
    return members_of<T, Found..., Anything>();
  } else {
    return sizeof...(Found);
  }
}

}  // namespace

BOOST_AUTO_TEST_SUITE(trainer)

BOOST_AUTO_TEST_CASE(metrics_have_the_promised_lines) {
  Data data;
  Run run(data, data.folder / "run");
  run.trainer.start();
  BOOST_TEST((run.trainer.run() == Outcome::finished));
  std::vector<std::string> lines;
  for (const Json& entry : metrics(data.folder / "run")) {
    std::string keys;
    for (const auto& [key, value] : entry.items()) keys += key + " ";
    lines.push_back(entry["kind"].get<std::string>() + " " + entry["step"].dump() + ": " + keys);
  }
  const std::string train = "kind step loss learning_rate gradient_norm ",
                    entropy = "kind step head_entropy nonfinite_rows ", slopes = "kind step slopes ",
                    eval = "kind step eval_loss perplexity head_entropy nonfinite_rows slopes ";
  const std::vector<std::string> expected{
      "entropy 0: " + entropy, "slopes 0: " + slopes,   "train 0: " + train,     "eval 2: " + eval,
      "train 2: " + train,     "entropy 3: " + entropy, "slopes 3: " + slopes,   "eval 4: " + eval,
      "train 4: " + train,     "eval 6: " + eval,       "entropy 6: " + entropy, "slopes 6: " + slopes,
      "train 6: " + train,     "eval 7: " + eval};
  BOOST_TEST(lines == expected, boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(slopes_are_those_of_the_step_s_pass_and_decay_when_asked_to) {
  Data data;
  double last[2];
  for (const bool decays : {true, false}) {
    TrainerOptions chosen = options;
    chosen.decay_slopes = decays;
    chosen.weight_decay = 10;
    const auto folder = data.folder / (decays ? "decayed" : "free");
    Run run(data, folder, chosen);
    run.trainer.start();
    run.trainer.run();
    std::vector<Json> seen;
    for (const Json& entry : metrics(folder)) {
      if (entry["kind"] == "slopes") seen.push_back(entry["slopes"]);
    }
    BOOST_TEST_REQUIRE(seen.size() == 3);
    // One slope for each layer; at step 0 no update has touched them.
    BOOST_TEST((seen[0] == Json::array({0.01f, 0.01f})));
    BOOST_TEST((seen[1] != seen[0]));
    last[decays] = run.model.parameters().masters()[slope_offset(run.model)];
  }
  BOOST_TEST(last[true] != last[false]);
}

BOOST_AUTO_TEST_CASE(windows_may_be_shorter_than_the_context) {
  Data data;
  const int length = tiny.context / 3;
  Windows train(TokenShard::open(data.folder / "train.bin"), length, tiny.vocab_size);
  BOOST_TEST_REQUIRE(train.count() == 3 * data.train.count());
  const auto run = [&](const Windows& windows, const std::filesystem::path& folder, bool resumes) {
    Model model(options.batch_size);
    model.initialize(options.seed);
    Trainer<Model> trainer(model, &windows, &windows, options, folder);
    resumes ? trainer.resume() : trainer.start();
    return trainer.run();
  };
  BOOST_TEST((run(train, data.folder / "short", false) == Outcome::finished));
  // Another length of windows is another run, even with as many of them.
  BOOST_CHECK_EXCEPTION(run(data.train, data.folder / "short", true), Error, [](const Error& error) {
    return std::string(error.what()).find("with context 3, not 9") != std::string::npos;
  });
}

BOOST_AUTO_TEST_CASE(the_loss_is_of_the_batch_before_the_update) {
  Data data;
  TrainerOptions plain = options;
  plain.dropout = 0;
  plain.shuffle = false;
  plain.steps = 1;
  plain.observe_every = 0;
  Run run(data, data.folder / "run", plain);
  double sum = 0;
  Model twin(6);
  twin.initialize(plain.seed);
  WindowBatch first(6, tiny.context);
  for (int row = 0; row < 6; ++row) first.read(data.train, row, row);
  sum = twin.loss(first.batch(6));
  run.trainer.start();
  run.trainer.run();
  BOOST_TEST(metrics(data.folder / "run")[0]["loss"].get<double>() == sum,
             boost::test_tools::tolerance(1e-6));
}

BOOST_AUTO_TEST_CASE(a_run_stopped_after_any_step_resumes_bit_for_bit) {
  Data data;
  Run whole(data, data.folder / "whole");
  whole.trainer.start();
  BOOST_TEST((whole.trainer.run() == Outcome::finished));
  for (int stop = 0; stop < options.steps; ++stop) {
    const auto folder = data.folder / ("stopped at " + std::to_string(stop));
    {
      Run run(data, folder);
      run.trainer.start();
      BOOST_TEST((run.trainer.run(after(stop)) == Outcome::interrupted));
      BOOST_TEST(run.trainer.step() == stop);
    }
    Run run(data, folder);
    run.model.initialize(99);
    run.trainer.resume();
    BOOST_TEST(run.trainer.step() == stop);
    BOOST_TEST((run.trainer.run() == Outcome::finished));
    check_same_run(data.folder / "whole", folder);
    BOOST_TEST((weights(run.model) == weights(whole.model)));
  }
}

// Steps after the last checkpoint are repeated, without duplicate metrics.
BOOST_AUTO_TEST_CASE(a_run_killed_between_checkpoints_resumes_bit_for_bit) {
  Data data;
  TrainerOptions sparse = options;
  sparse.checkpoint_every = 3;
  Run whole(data, data.folder / "whole", sparse);
  whole.trainer.start();
  whole.trainer.run();
  for (int kill = 1; kill < options.steps; ++kill) {
    const auto folder = data.folder / ("killed at " + std::to_string(kill));
    const pid_t child = ::fork();
    if (child == 0) {
      Run run(data, folder, sparse);
      run.trainer.start();
      run.trainer.run([stop = after(kill)]() mutable {
        if (stop()) ::_exit(0);
        return false;
      });
      ::_exit(1);
    }
    int status = -1;
    BOOST_REQUIRE(::waitpid(child, &status, 0) == child);
    BOOST_TEST(status == 0);
    Run run(data, folder, sparse);
    run.trainer.resume();
    BOOST_TEST(run.trainer.step() == kill / 3 * 3);
    run.trainer.run();
    check_same_run(data.folder / "whole", folder);
  }
}

// The command line, the course and the check of a resumed run all come from for_each.
BOOST_AUTO_TEST_CASE(every_option_has_its_line) {
  std::vector<std::string> names;
  TrainerOptions::for_each(options, [&](const char* name, const auto&, const char* help, Course) {
    names.push_back(name);
    BOOST_TEST(std::string(help) != "");
  });
  BOOST_TEST(names.size() == std::size_t{members_of<TrainerOptions>()});
  BOOST_TEST(std::set<std::string>(names.begin(), names.end()).size() == names.size());
}

BOOST_AUTO_TEST_CASE(a_resumed_run_has_the_same_course_whatever_else_is_different) {
  Data data;
  {
    Run run(data, data.folder / "run");
    run.trainer.start();
    run.trainer.run(after(2));
  }
  int parts = 0;
  TrainerOptions::for_each(options, [&](const char* changed, const auto&, const char*, Course part) {
    TrainerOptions other = options;
    TrainerOptions::for_each(other, [&](const char* name, auto& value, const char*, Course) {
      if (std::string_view(name) != changed) return;
      using Value = std::remove_reference_t<decltype(value)>;
      if constexpr (std::is_same_v<Value, bool>) {
        value = !value;
      } else {
        value = value > 1 ? value - 1 : value + Value(1) / 2 + std::is_integral_v<Value>;
      }
    });
    Run run(data, data.folder / "run", other);
    if (part == Course::part) {
      ++parts;
      BOOST_CHECK_EXCEPTION(run.trainer.resume(), Error, contains(std::string("was made with ") + changed));
    } else {
      run.trainer.resume();
      BOOST_TEST(run.trainer.step() == 2);
    }
  });
  BOOST_TEST(parts >= 10);
}

BOOST_AUTO_TEST_CASE(another_course_is_refused_by_name) {
  Data data;
  {
    Run run(data, data.folder / "run");
    run.trainer.start();
    run.trainer.run(after(2));
  }
  const std::string state = read_file(data.folder / "run/checkpoint/trainer.json");
  const auto refused = [&](auto change, const std::string& name, const std::string& saved,
                           const std::string& given) {
    TrainerOptions other = options;
    change(other);
    Run run(data, data.folder / "run", other);
    BOOST_CHECK_EXCEPTION(run.trainer.resume(), Error, contains(name + " " + saved, "not " + given));
  };
  refused([](auto& o) { o.steps = 8; }, "steps", "7", "8");
  refused([](auto& o) { o.batch_size = 1; }, "batch_size", "2", "1");
  refused([](auto& o) { o.accumulate = 2; }, "accumulate", "3", "2");
  refused([](auto& o) { o.learning_rate = 1e-3; }, "learning_rate", "0.01", "0.001");
  refused([](auto& o) { o.warmup_ratio = 0.5; }, "warmup_ratio", "0.3", "0.5");
  refused([](auto& o) { o.weight_decay = 0; }, "weight_decay", "0.1", "0.0");
  refused([](auto& o) { o.dropout = 0.1; }, "dropout", "0.3", "0.1");
  refused([](auto& o) { o.seed = 12; }, "seed", "11", "12");
  refused([](auto& o) { o.shuffle = false; }, "shuffle", "true", "false");

  Data smaller;
  const Windows fewer(
      TokenShard::open(write_tokens(smaller.folder / "b.bin", 12, tiny.context, tiny.vocab_size)),
      tiny.context, tiny.vocab_size);
  Model model(2);
  Trainer<Model> trainer(model, &fewer, nullptr, options, data.folder / "run");
  BOOST_CHECK_EXCEPTION(trainer.resume(), Error, contains("13 training windows", "has 12"));
  BOOST_TEST(read_file(data.folder / "run/checkpoint/trainer.json") == state);
}

namespace {

/// A custom schedule.
struct Halving {
  static constexpr std::string_view name = "halving";
  double operator()(std::int64_t step) const { return 1e-2 / static_cast<double>(1 << step); }
};

}  // namespace

namespace {

/// A custom observer: the largest loss of a token.
class WorstToken {
 public:
  static constexpr std::string_view name = "worst_token";
  static constexpr bool observes_losses = true;

  WorstToken(int /*layers*/, int /*heads*/) {}
  void reset() { worst_ = 0; }
  template <class T>
  void record_losses(BatchShape shape, const T* losses, const std::int32_t* /*targets*/) {
    for (Index i = 0; i < shape.rows(); ++i) worst_ = std::max(worst_, static_cast<double>(losses[i]));
  }
  template <class F>
  void report(const F& f) const {
    f("worst_loss", worst_);
  }

 private:
  double worst_ = 0;
};

}  // namespace

// An observer's report appears in the metrics automatically, for training and evaluation, together with those
// of the others.
BOOST_AUTO_TEST_CASE(an_observer_s_report_is_in_the_metrics) {
  Data data;
  Decoder<tiny, Identity, ReLU, Cpu, Observers<EntropyObserver, WorstToken>> model(options.batch_size);
  model.initialize(options.seed);
  Trainer trainer(model, &data.train, &data.validation, options, data.folder / "run");
  trainer.start();
  BOOST_TEST((trainer.run() == Outcome::finished));
  int of_training = 0, of_evaluation = 0;
  for (const Json& entry : metrics(data.folder / "run")) {
    of_training += entry["kind"] == "worst_token" && entry["worst_loss"] > 0;
    of_evaluation += entry["kind"] == "eval" && entry["worst_loss"] > 0 && entry.contains("head_entropy");
  }
  BOOST_TEST(of_training == 3);
  BOOST_TEST(of_evaluation == 4);
}

// Muon's momentum and another schedule's rates resume like AdamW's and the paper's.
BOOST_AUTO_TEST_CASE(another_optimizer_and_schedule_resume_bit_for_bit) {
  Data data;
  using WithMuon = Trainer<Model, Muon, Halving>;
  const auto train = [&](const std::filesystem::path& folder, bool resumes, int steps) {
    Model model(options.batch_size);
    model.initialize(options.seed);
    WithMuon trainer(model, &data.train, &data.validation, options, folder);
    resumes ? trainer.resume() : trainer.start();
    return trainer.run(after(steps));
  };
  BOOST_TEST((train(data.folder / "whole", false, 99) == Outcome::finished));
  BOOST_TEST((train(data.folder / "parts", false, 3) == Outcome::interrupted));
  BOOST_TEST((train(data.folder / "parts", true, 99) == Outcome::finished));
  check_same_run(data.folder / "whole", data.folder / "parts");
  for (const Json& entry : metrics(data.folder / "whole")) {
    if (entry["kind"] == "train")
      BOOST_TEST(entry["learning_rate"].get<double>() == Halving{}(entry["step"].get<std::int64_t>()));
  }
  const auto is_of_another = [](const std::string& what) {
    return [=](const Error& error) { return std::string(error.what()).find(what) != std::string::npos; };
  };
  Run adamw(data, data.folder / "parts");
  BOOST_CHECK_EXCEPTION(adamw.trainer.resume(), Error, is_of_another("was made with optimizer \"muon\""));
  Model model(options.batch_size);
  Trainer<Model, Muon> linear(model, &data.train, nullptr, options, data.folder / "parts");
  BOOST_CHECK_EXCEPTION(linear.resume(), Error, is_of_another("was made with schedule \"halving\""));
  auto parts = WithMuon::parts(options);
  parts.optimizer.momentum = 0.5;
  WithMuon other(model, &data.train, nullptr, options, parts, data.folder / "parts");
  BOOST_CHECK_EXCEPTION(other.resume(), Error, is_of_another("was made with momentum 0.95, not 0.5"));
}

namespace {

/// The cross-entropy, with only a name added.
template <class Device>
struct Renamed {
  static constexpr std::string_view name = "renamed";
  Renamed(ParameterSet<Device>&, const DecoderConfig&) {}
  double on_hidden(Device&, const TrainingPass&, int, Matrix<const float>, Matrix<float>) { return 0; }
};

}  // namespace

// Its weights are interchangeable with others, but its run is not.
BOOST_AUTO_TEST_CASE(an_objective_belongs_to_the_run_and_not_to_the_weights) {
  Data data;
  using Trained = Decoder<tiny, Identity, ReLU, Cpu, NoObserver, PreNorm, Renamed>;
  using Plain = Decoder<tiny, Identity, ReLU, Cpu, NoObserver>;
  Trained trained(options.batch_size);
  trained.initialize(options.seed);
  Trainer<Trained> trainer(trained, &data.train, nullptr, options, data.folder / "run");
  trainer.start();
  trainer.run(after(2));
  Plain plain(options.batch_size);
  load_checkpoint(data.folder / "run/checkpoint", plain);
  BOOST_TEST(evaluate(plain, data.validation).eval_loss == evaluate(trained, data.validation).eval_loss);
  Trainer<Plain> other(plain, &data.train, nullptr, options, data.folder / "run");
  BOOST_CHECK_EXCEPTION(other.resume(), Error,
                        contains("was made with objective \"renamed\"", "\"cross_entropy\""));
}

// A finished run continues if it may have more steps; its output is kept.
BOOST_AUTO_TEST_CASE(a_finished_run_can_be_extended) {
  Data data;
  {
    Run run(data, data.folder / "run");
    run.trainer.start();
    BOOST_TEST((run.trainer.run() == Outcome::finished));
  }
  const auto lines = metrics(data.folder / "run");
  TrainerOptions more = options;
  more.steps = options.steps + 4;
  Run refused(data, data.folder / "run", more);
  BOOST_CHECK_THROW(refused.trainer.resume(), Error);
  more.extend = true;
  std::vector<std::int64_t> evaluated;
  Model model(more.batch_size);
  Trainer<Model> trainer(model, &data.train, &data.validation, more, data.folder / "run",
                         {.on_evaluation = [&](std::int64_t step, const Evaluation& evaluation) {
                           BOOST_TEST(evaluation.targets > 0);
                           evaluated.push_back(step);
                         }});
  trainer.resume();
  BOOST_TEST((trainer.run() == Outcome::finished));
  BOOST_TEST(trainer.step() == more.steps);
  BOOST_TEST((evaluated == std::vector<std::int64_t>{8, 10, 11}));
  const auto all = metrics(data.folder / "run");
  BOOST_TEST_REQUIRE(all.size() > lines.size());
  BOOST_TEST(std::equal(lines.begin(), lines.end(), all.begin()));
  more.steps = options.steps;  // less than the run has
  Run shorter(data, data.folder / "run", more);
  BOOST_CHECK_THROW(shorter.trainer.resume(), Error);
}

BOOST_AUTO_TEST_CASE(nothing_is_overwritten) {
  Data data;
  {
    Run run(data, data.folder / "run");
    run.trainer.start();
    run.trainer.run(after(3));
  }
  const std::string lines = read_file(data.folder / "run/metrics.jsonl"),
                    weights = read_file(data.folder / "run/checkpoint/model.safetensors");
  Run second(data, data.folder / "run");
  BOOST_CHECK_EXCEPTION(second.trainer.start(), Error, contains("already holds a run", "resume it"));
  BOOST_TEST(read_file(data.folder / "run/metrics.jsonl") == lines);
  BOOST_TEST(read_file(data.folder / "run/checkpoint/model.safetensors") == weights);

  // A folder with only metrics is not overwritten either.
  data.folder.write("old/metrics.jsonl", "{}\n");
  Run third(data, data.folder / "old");
  BOOST_CHECK_EXCEPTION(third.trainer.start(), Error, contains("already holds a run"));
  BOOST_TEST(read_file(data.folder / "old/metrics.jsonl") == "{}\n");

  // A run killed before its first checkpoint left this.
  data.folder.write("new/metrics.jsonl", "");
  Run fourth(data, data.folder / "new");
  BOOST_CHECK_NO_THROW(fourth.trainer.start());

  data.folder.write("file", "in the way");
  Run fifth(data, data.folder / "file");
  BOOST_CHECK_EXCEPTION(fifth.trainer.start(), Error, contains("cannot be created", "file"));
}

BOOST_AUTO_TEST_CASE(one_process_at_a_time_writes_a_run) {
  Data data;
  Run first(data, data.folder / "run");
  first.trainer.start();
  first.trainer.run(after(2));
  const std::string lines = read_file(data.folder / "run/metrics.jsonl");
  Run second(data, data.folder / "run");
  BOOST_CHECK_EXCEPTION(second.trainer.resume(), Error, contains("metrics.jsonl", "another process"));
  BOOST_TEST(read_file(data.folder / "run/metrics.jsonl") == lines);
}

BOOST_AUTO_TEST_CASE(a_damaged_run_is_not_resumed) {
  Data data;
  {
    Run run(data, data.folder / "run");
    BOOST_CHECK_EXCEPTION(run.trainer.resume(), Error, contains("no checkpoint to resume from"));
    BOOST_CHECK_EXCEPTION(run.trainer.run(), Error, contains("start() or resume()"));
    run.trainer.start();
    run.trainer.run(after(3));
  }
  const auto refused = [&](auto... words) {
    Run run(data, data.folder / "run");
    BOOST_CHECK_EXCEPTION(run.trainer.resume(), Error, contains(words...));
  };
  const std::string lines = read_file(data.folder / "run/metrics.jsonl"),
                    others = std::string(lines.size() - 1, '?') + "\n\n";
  data.folder.write("run/metrics.jsonl", others.substr(0, lines.size() - 1) + "??");
  refused("metrics.jsonl", "does not belong to this checkpoint");
  BOOST_TEST(read_file(data.folder / "run/metrics.jsonl").size() == lines.size() + 1);
  data.folder.write("run/metrics.jsonl", lines);

  const Json state = read_checkpoint_state(data.folder / "run/checkpoint");
  for (const char* key : {"step", "windows", "metrics_bytes", "updates", "course"}) {
    Json damaged = state;
    damaged[key] = "?";
    data.folder.write("run/checkpoint/trainer.json", damaged.dump());
    refused("checkpoint");
    BOOST_TEST(read_file(data.folder / "run/metrics.jsonl") == lines);
  }
  for (const Json& step :
       {Json(-1), Json(2), Json(3.5), Json("3"), Json(options.steps + 1), Json(1ull << 63)}) {
    Json damaged = state;
    damaged["step"] = step;
    data.folder.write("run/checkpoint/trainer.json", damaged.dump());
    refused("trainer.json", "damaged", "step");
  }
  data.folder.write("run/checkpoint/trainer.json", state.dump());
  Run run(data, data.folder / "run");
  BOOST_CHECK_NO_THROW(run.trainer.resume());
}

// As if only the checkpoint was copied to another machine, or a copy of the metrics was truncated.
BOOST_AUTO_TEST_CASE(a_run_goes_on_without_its_earlier_metrics) {
  Data data;
  TrainerOptions sparse = options;
  sparse.checkpoint_every = 0;
  Run whole(data, data.folder / "whole", sparse);
  whole.trainer.start();
  whole.trainer.run();
  const std::vector<Json> all = metrics(data.folder / "whole");
  const std::vector<Json> later(
      std::find_if(all.begin(), all.end(),
                   [](const Json& line) { return line["step"] >= 4 && line["kind"] != "eval"; }),
      all.end());
  {
    Run run(data, data.folder / "run", sparse);
    run.trainer.start();
    run.trainer.run(after(4));
  }
  const std::string lines = read_file(data.folder / "run/metrics.jsonl");
  const std::size_t first_line = lines.find('\n') + 1;
  struct Left {
    std::string lines;
    std::vector<Json> kept;
  };
  for (const Left& left : {Left{"", {}}, Left{lines.substr(0, first_line), {all[0]}},
                           Left{lines.substr(0, first_line + 9), {all[0]}}}) {
    const auto folder = data.folder / "copy";
    std::filesystem::remove_all(folder);
    std::filesystem::create_directories(folder);
    std::filesystem::copy(data.folder / "run/checkpoint", folder / "checkpoint");
    if (!left.lines.empty()) data.folder.write("copy/metrics.jsonl", left.lines);
    std::vector<std::string> told;
    const auto go_on = [&](const std::function<bool()>& stop) {
      Model model(sparse.batch_size);
      Trainer<Model> trainer(model, &data.train, &data.validation, sparse, folder,
                             {.on_message = [&](const std::string& text) { told.push_back(text); }});
      trainer.resume();
      return trainer.run(stop);
    };
    // Even when killed before its next checkpoint, it has no step twice.
    const pid_t child = ::fork();
    if (child == 0) {
      go_on([stop = after(1)]() mutable {
        if (stop()) ::_exit(0);
        return false;
      });
      ::_exit(1);
    }
    int status = -1;
    BOOST_REQUIRE(::waitpid(child, &status, 0) == child);
    BOOST_TEST(status == 0);
    BOOST_TEST((go_on([] { return false; }) == Outcome::finished));
    std::vector<Json> expected = left.kept;
    expected.insert(expected.end(), later.begin(), later.end());
    BOOST_TEST((metrics(folder) == expected));
    BOOST_TEST((read_file(folder / "checkpoint/model.safetensors") ==
                read_file(data.folder / "whole/checkpoint/model.safetensors")));

    data.folder.write("copy/metrics.jsonl", left.lines);
    told.clear();
    go_on([] { return true; });
    BOOST_TEST_REQUIRE(!told.empty());
    BOOST_TEST(contains("note", "metrics.jsonl", "are missing")(Error(told.front())));
  }
  // A refused resume makes no metrics.
  std::filesystem::remove(data.folder / "copy/metrics.jsonl");
  data.folder.write("copy/checkpoint/optimizer.safetensors", "");
  Run run(data, data.folder / "copy", sparse);
  BOOST_CHECK_EXCEPTION(run.trainer.resume(), Error, contains("optimizer.safetensors"));
  BOOST_TEST(!std::filesystem::exists(data.folder / "copy/metrics.jsonl"));
}

BOOST_AUTO_TEST_CASE(a_diverged_run_says_where_and_leaves_the_last_checkpoint) {
  Data data;
  const auto check = [&](Run& run, const std::string& folder, const std::string& checkpoint) {
    BOOST_TEST((run.trainer.run() == Outcome::diverged));
    const Json last = metrics(data.folder / folder).back();
    BOOST_TEST(last["kind"] == "diverged");
    BOOST_TEST(last["step"] == run.trainer.step());
    BOOST_TEST(last["loss"].is_null());
    const std::string tensor = last["tensor"];
    bool known = false;
    for (const auto& parameter : run.model.parameters().all()) known = known || parameter.name == tensor;
    BOOST_TEST(known, tensor << " is not a tensor of the model");
    BOOST_TEST((read_file(data.folder / folder / "checkpoint/model.safetensors") == checkpoint));
  };
  {
    Run run(data, data.folder / "nan");
    run.trainer.start();
    const std::string checkpoint = read_file(data.folder / "nan/checkpoint/model.safetensors");
    auto& table = run.model.parameters().all().front();
    std::vector<float> values(static_cast<std::size_t>(table.size()),
                              std::numeric_limits<float>::quiet_NaN());
    run.model.parameters().write(run.model.device(), table, values.data());
    check(run, "nan", checkpoint);
    BOOST_TEST(run.trainer.step() == 0);
  }
  {
    TrainerOptions wild = options;
    wild.learning_rate = 1e30;
    Run run(data, data.folder / "wild", wild);
    run.trainer.start();
    const std::string checkpoint = read_file(data.folder / "wild/checkpoint/model.safetensors");
    check(run, "wild", checkpoint);
    BOOST_TEST(run.trainer.step() > 0);
  }
}

BOOST_AUTO_TEST_CASE(a_run_of_no_steps_needs_no_data) {
  TemporaryFolder folder;
  TrainerOptions none = options;
  none.steps = 0;
  Model model(2);
  model.initialize(3);
  Trainer<Model> trainer(model, nullptr, nullptr, none, folder / "run");
  trainer.start();
  BOOST_TEST((trainer.run() == Outcome::finished));
  Model other(2);
  load_weights(other, folder / "run/checkpoint/model.safetensors");
  BOOST_TEST((weights(other) == weights(model)));
  BOOST_TEST(metrics(folder / "run").empty());
  BOOST_CHECK_EXCEPTION(Trainer<Model>(model, nullptr, nullptr, options, folder / "x"), Error,
                        contains("token shard"));
}

BOOST_AUTO_TEST_CASE(what_does_not_suit_the_model_is_refused_before_the_run_begins) {
  Data data;
  const auto refused = [&](Model& model, const TrainerOptions& chosen, auto... words) {
    BOOST_CHECK_EXCEPTION(
        Trainer<Model>(model, &data.train, &data.validation, chosen, data.folder / "run").start(), Error,
        contains(words...));
    BOOST_TEST(!std::filesystem::exists(data.folder / "run"));
  };
  Model model(options.batch_size);
  refused(model, options, "weights are all zero", "initialize()");
  model.initialize(3);
  TrainerOptions other = options;
  other.batch_size = options.batch_size + 1;
  refused(model, other, "batch_size of 3", "up to 2 windows");
  other.batch_size = 0;
  refused(model, other, "batch_size of 0");
  other = options;
  other.accumulate = 0;
  refused(model, other, "accumulate", "0");

  const Windows longer{
      TokenShard::open(write_tokens(data.folder / "longer.bin", 3, tiny.context + 1, tiny.vocab_size)),
      tiny.context + 1, tiny.vocab_size};
  using Pair = std::pair<const Windows*, const Windows*>;
  for (const auto& [train, validation] : {Pair{&longer, &data.validation}, Pair{&data.train, &longer}}) {
    BOOST_CHECK_EXCEPTION(Trainer<Model>(model, train, validation, options, data.folder / "run"), Error,
                          contains("windows of 10", "context of 9"));
  }
}

BOOST_AUTO_TEST_CASE(evaluation_counts_every_target_once) {
  Data data;
  Model one(1), two(2);
  one.initialize(4);
  two.initialize(4);
  const Evaluation a = evaluate(one, data.validation), b = evaluate(two, data.validation);
  BOOST_TEST(a.targets == 3 * (tiny.context - 1));
  BOOST_TEST(b.targets == a.targets);
  BOOST_TEST(a.eval_loss == b.eval_loss, boost::test_tools::tolerance(1e-6));
  BOOST_TEST(a.perplexity() == std::exp(a.eval_loss));
  // The observer holds only this evaluation.
  const auto entropy = one.observer().head_entropy();
  evaluate(one, data.validation);
  BOOST_TEST((one.observer().head_entropy() == entropy));
}

BOOST_AUTO_TEST_SUITE_END()
