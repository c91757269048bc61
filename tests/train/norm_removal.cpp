#include "lnfree/train/norm_removal.hpp"

#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <sstream>
#include <string>
#include <vector>

#include <lnfree/checkpoint/fold.hpp>
#include <lnfree/checkpoint/open_model.hpp>
#include <lnfree/train/trainer.hpp>

#include "support/layouts.hpp"
#include "train/support.hpp"

using namespace lnfree;
using namespace lnfree::test;

namespace {

constexpr DecoderConfig one_norm_more = clean(tiny);
constexpr DecoderConfig side_by_side = clean(parallel_rotary);

using TaperedModel =
    Decoder<one_norm_more, Tapered, GELU, Reference<float>, EntropyObserver, AsConfigured, SteadyScale>;
using StagedModel = TinyModel<Staged, ReLU, side_by_side>;

const TrainerOptions removal_options{.steps = 10,
                                     .batch_size = 2,
                                     .accumulate = 2,
                                     .learning_rate = 5e-3,
                                     .warmup_ratio = 0.2,
                                     .dropout = 0,
                                     .seed = 11,
                                     .shuffle = false,
                                     .log_every = 1,
                                     .observe_every = 0,
                                     .eval_every = 0,
                                     .checkpoint_every = 0};

template <class Model>
struct Removing {
  explicit Removing(const TrainerOptions& chosen = removal_options, NormRemovalOptions removal = {0.2, 0.8})
      : windows(TokenShard::open(write_tokens(folder / "train.bin", 60, context, Model::config.vocab_size)),
                context, Model::config.vocab_size),
        options(chosen),
        parts(Trainer<Model>::parts(chosen)) {
    parts.removal = removal;
  }

  /// Trains a model in a run of that name until it stops; `resumes` one that was stopped before.
  Outcome train(Model& model, const char* name, bool resumes = false, int steps = -1) {
    Trainer<Model> trainer(model, &windows, nullptr, options, parts, folder / name);
    if (resumes) {
      trainer.resume();
    } else {
      trainer.start();
    }
    return trainer.run([=]() mutable { return steps-- == 0; });
  }

  /// The norm_gate values of its metrics.
  std::vector<double> gates(const char* name) const {
    std::istringstream lines(read_file(folder / name / "metrics.jsonl"));
    std::vector<double> found;
    for (std::string line; std::getline(lines, line);) found.push_back(Json::parse(line)["norm_gate"]);
    return found;
  }

  static constexpr int context = Model::config.context;
  TemporaryFolder folder;
  Windows windows;
  TrainerOptions options;
  typename Trainer<Model>::Parts parts;
};

template <class Model>
float setting_of(Model& model, const std::string& name) {
  for (const auto& parameter : model.parameters().all()) {
    if (parameter.name == name) return model.parameters().read(model.device(), parameter)[0];
  }
  throw Error("there is no " + name);
}

/// Asks for an anchor of the stream's scale where the model's objective has one.
template <class Model>
void anchor([[maybe_unused]] Model& model, [[maybe_unused]] double coefficient) {
  if constexpr (HasTarget<typename Model::Objective>) model.objective().options().anchor = coefficient;
}

/// A model with gains and biases that differ from their initial values.
template <class Model>
void initialize_unevenly(Model& model) {
  model.initialize(3, 0.2);
  for (auto& parameter : model.parameters().all()) {
    if (parameter.kind != ParameterKind::norm) continue;
    auto values = model.parameters().read(model.device(), parameter);
    for (std::size_t i = 0; i < values.size(); ++i) values[i] += 0.1f * std::sin(static_cast<float>(i));
    model.parameters().write(model.device(), parameter, values.data());
  }
}

/// Writes the folded model of a checkpoint to a folder beside it.
std::filesystem::path fold_checkpoint(const std::filesystem::path& from) {
  Architecture architecture = read_architecture(from);
  NamedTensors tensors;
  for (StoredTensor& tensor : read_weights(from, architecture.sizes.heads)) {
    const std::string name = tensor.name;
    tensors.emplace(name, std::move(tensor));
  }
  fold_norms(architecture, tensors);
  auto to = from;
  to += ".folded";
  std::filesystem::create_directories(to);
  std::vector<NamedTensor> all;
  for (auto& [name, tensor] : tensors) all.push_back(tensor);
  save_safetensors(to / "model.safetensors", all);
  write_file(to / "config.json", to_json(architecture).dump());
  return to;
}

/// How far the logits of a folded checkpoint are off, relative to the largest.
template <class Model>
double error_of_folded(Model& model, const std::filesystem::path& checkpoint) {
  const auto folded = open_model<Reference<float>>(fold_checkpoint(checkpoint));
  double worst = 0, largest = 0;
  for (int length = 1; length <= Model::config.context; ++length) {
    std::vector<std::int32_t> text;
    for (int i = 0; i < length; ++i) text.push_back(i * 5 % Model::config.vocab_size);
    const auto expected = model.next_logits(text), found = folded->next_logits(text);
    for (std::size_t i = 0; i < expected.size(); ++i) {
      worst = std::max(worst, std::abs(expected[i] - found[i]));
      largest = std::max(largest, std::abs(expected[i]));
    }
  }
  return worst / largest;
}

template <class Model, class Plain>
void check_start() {
  TemporaryFolder folder;
  Plain plain(2);
  initialize_unevenly(plain);
  save_weights(plain, folder / "model.safetensors");
  // As transformers would have it.
  const auto file = SafetensorsFile::open(folder / "model.safetensors");
  std::vector<NamedTensor> theirs;
  for (const TensorInfo& tensor : file.tensors())
    theirs.push_back({"transformer." + tensor.name, tensor.shape, [&] { return file.read(tensor); }});
  save_safetensors(folder / "theirs.safetensors", theirs);

  constexpr DecoderConfig config = Plain::config;
  std::vector<std::int32_t> tokens;
  for (int i = 0; i < 2 * config.context; ++i) tokens.push_back(i * 7 % config.vocab_size);
  const Batch batch{{2, config.context}, tokens, tokens};
  for (const char* name : {"model.safetensors", "theirs.safetensors"}) {
    Model model(2);
    model.initialize(4);
    BOOST_CHECK_THROW(load_weights(model, folder / name), Error);
    load_weights(model, folder / name, ObjectiveWeights::refused, MissingParameters::initialized);
    BOOST_TEST(model.loss(batch) == plain.loss(batch), boost::test_tools::tolerance(1e-6));
  }
}

template <class Model>
void check_resumption() {
  Removing<Model> run;
  for (const int steps : {1, 5, 9}) {
    Model whole(2), first(2), second(2);
    initialize_unevenly(whole);
    initialize_unevenly(first);
    for (Model* model : {&whole, &first, &second}) anchor(*model, 0.5);
    const std::string a = "whole" + std::to_string(steps), b = "parts" + std::to_string(steps);
    BOOST_TEST((run.train(whole, a.c_str()) == Outcome::finished));
    BOOST_TEST((run.train(first, b.c_str(), false, steps) == Outcome::interrupted));
    BOOST_TEST((run.train(second, b.c_str(), true) == Outcome::finished));
    BOOST_TEST((weights(whole) == weights(second)));
    BOOST_TEST(run.gates(a.c_str()) == run.gates(b.c_str()));
  }
}

}  // namespace

BOOST_AUTO_TEST_SUITE(norm_removal)

BOOST_AUTO_TEST_CASE(starts_from_a_model_with_layer_norms) {
  check_start<TaperedModel, TinyModel<LayerNorm, GELU, one_norm_more>>();
  check_start<StagedModel, TinyModel<LayerNorm, ReLU, side_by_side>>();
}

BOOST_AUTO_TEST_CASE(a_removal_that_was_interrupted_goes_on_bit_for_bit) {
  check_resumption<TaperedModel>();
  check_resumption<StagedModel>();
}

BOOST_AUTO_TEST_CASE(a_removal_is_resumed_with_the_same_options) {
  Removing<TaperedModel> run;
  TaperedModel model(2), other(2);
  initialize_unevenly(model);
  run.train(model, "run", false, 5);
  run.parts.removal.to = 0.9;
  BOOST_CHECK_EXCEPTION(run.train(other, "run", true), Error, contains("removal_to", "0.8", "0.9"));
}

BOOST_AUTO_TEST_CASE(a_tapered_model_folds_when_its_gate_is_0) {
  Removing<TaperedModel> run;
  TaperedModel model(2);
  initialize_unevenly(model);
  BOOST_TEST((run.train(model, "run", false, 5) == Outcome::interrupted));
  BOOST_CHECK_EXCEPTION(fold_checkpoint(run.folder / "run" / "checkpoint"), Error,
                        contains("ln_", "is not removed yet", "train on"));
  BOOST_TEST((run.train(model, "run", true) == Outcome::finished));
  const auto gates = run.gates("run");
  BOOST_TEST(gates.front() == 1);
  BOOST_TEST(std::abs(gates[5] - 0.5) < 1e-6);  // half way of a cosine from step 2 to step 8
  BOOST_TEST(gates.back() == 0);
  BOOST_TEST(error_of_folded(model, run.folder / "run" / "checkpoint") < 1e-5);
  // The embedding is no longer the output matrix.
  BOOST_TEST(!read_architecture(run.folder / "run" / "checkpoint.folded").sizes.tied_output);
}

// Its weights are those of a norm-free model of the same sizes, with an output matrix of its own.
BOOST_AUTO_TEST_CASE(a_norm_free_model_takes_up_what_was_folded) {
  constexpr DecoderConfig untied = [] {
    DecoderConfig config = one_norm_more;
    config.tied_output = false;
    return config;
  }();
  Removing<TaperedModel> run;
  TaperedModel model(2);
  initialize_unevenly(model);
  anchor(model, 0.5);
  BOOST_TEST((run.train(model, "run") == Outcome::finished));
  const auto folded = fold_checkpoint(run.folder / "run" / "checkpoint");
  TinyModel<Identity, GELU, untied> free(2);
  BOOST_TEST(architecture_difference<decltype(free)>(folded) == "");
  load_weights(free, folded);
  for (const auto& parameter : free.parameters().all()) BOOST_TEST(!parameter.name.starts_with("ln_"));
  double worst = 0, largest = 0;
  for (int length = 1; length <= untied.context; ++length) {
    std::vector<std::int32_t> text;
    for (int i = 0; i < length; ++i) text.push_back(i * 11 % untied.vocab_size);
    const auto expected = model.next_logits(text), found = free.next_logits(text);
    for (std::size_t i = 0; i < expected.size(); ++i) {
      worst = std::max(worst, std::abs(expected[i] - found[i]));
      largest = std::max(largest, std::abs(expected[i]));
    }
  }
  BOOST_TEST(worst < 1e-5 * largest);
}

BOOST_AUTO_TEST_CASE(an_anchor_stays_when_the_norms_begin_to_go) {
  Removing<TaperedModel> run;
  const auto target = [](const std::filesystem::path& folder) {
    return read_checkpoint_state(folder / "checkpoint").value("target", 0.0);
  };
  TaperedModel model(2);
  initialize_unevenly(model);
  anchor(model, 0.5);
  std::vector<double> targets;
  for (int steps = 1; steps <= run.options.steps; ++steps) {
    run.train(model, "run", steps > 1, 1);
    targets.push_back(target(run.folder / "run"));
  }
  // Norms are whole in steps 0 to 2.
  BOOST_TEST(targets[0] > 0);
  BOOST_TEST(targets[1] != targets[0]);
  BOOST_TEST(targets[2] != targets[1]);
  for (std::size_t i = 3; i < targets.size(); ++i) BOOST_TEST(targets[i] == targets[2], "step " << i);
  // Weights whose norms are gone already: what the first step finds.
  TaperedModel later(2);
  later.initialize(1);
  load_weights(later, run.folder / "run" / "checkpoint" / "model.safetensors");
  anchor(later, 0.5);
  run.train(later, "later", false, 1);
  const double found = target(run.folder / "later");
  BOOST_TEST(found > 0);
  BOOST_TEST(found != targets[2]);
  run.train(later, "later", true);
  BOOST_TEST(target(run.folder / "later") == found);
  // Nobody asks for an anchor: the checkpoint has no target.
  TaperedModel plain(2);
  initialize_unevenly(plain);
  run.train(plain, "plain", false, 1);
  BOOST_TEST(target(run.folder / "plain") == 0);
}

BOOST_AUTO_TEST_CASE(a_damaged_target_is_refused) {
  Removing<TaperedModel> run;
  TaperedModel model(2);
  initialize_unevenly(model);
  anchor(model, 0.5);
  run.train(model, "run", false, 2);
  const auto file = run.folder / "run" / "checkpoint" / "trainer.json";
  Json state = Json::parse(read_file(file));
  for (const Json& bad : {Json("far"), Json(-1.5), Json(nullptr)}) {
    state["target"] = bad;
    write_file(file, state.dump());
    BOOST_CHECK_EXCEPTION(run.train(model, "run", true), Error,
                          contains("trainer.json", "damaged", "target"));
  }
}

// Where the stream's scale would grow, it stays.
BOOST_AUTO_TEST_CASE(an_anchor_holds_the_scale) {
  TrainerOptions options = removal_options;
  options.steps = 60;
  options.learning_rate = 2e-2;
  const auto distance = [&](double coefficient) {
    Removing<TaperedModel> run(options, {0.02, 0.04});
    TaperedModel model(2);
    initialize_unevenly(model);
    anchor(model, coefficient);
    run.train(model, "run");
    std::vector<double> sums;
    model.objective().measure(sums);
    return std::abs(sums[0] / sums[1] - model.objective().target());
  };
  const double held = distance(10), free = distance(1e-9);
  BOOST_TEST(held < 0.3 * free, held << " and " << free);
}

BOOST_AUTO_TEST_CASE(a_staged_model_folds_when_its_last_norm_is_gone) {
  Removing<StagedModel> run;
  StagedModel model(2);
  initialize_unevenly(model);
  BOOST_TEST((run.train(model, "run", false, 7) == Outcome::interrupted));
  BOOST_CHECK_THROW(fold_checkpoint(run.folder / "run" / "checkpoint"), Error);
  BOOST_TEST((run.train(model, "run", true) == Outcome::finished));
  BOOST_TEST(run.gates("run").back() == 0);
  BOOST_TEST(error_of_folded(model, run.folder / "run" / "checkpoint") < 1e-5);
}

BOOST_AUTO_TEST_CASE(stages_follow_each_other) {
  StagedModel model(1);
  model.initialize(1);
  NormRemoval<StagedModel> removal(model, {0.2, 0.8}, Removal::staged, 30);
  const std::vector<std::string> order{"h.0.ln_2",   "h.1.ln_2",   "h.0.ln_1", "h.1.ln_1",
                                       "h.0.ln_1_v", "h.1.ln_1_v", "ln_f"};
  removal.read();
  for (int step = 0; step < 30; ++step) {
    removal.set_gates(step);
    for (std::size_t i = 0; i < order.size(); ++i) {
      const bool is_open = step < 6 + 3 * static_cast<int>(i);
      BOOST_TEST(setting_of(model, order[i] + ".gate") == (is_open ? 1 : 0), order[i] << " in step " << step);
    }
  }
  removal.set_gates(0);  // never opens again
  BOOST_TEST(removal.gate() == 0);
}

// The first norm reads the embedding itself.
BOOST_AUTO_TEST_CASE(scales_are_what_the_rows_say) {
  TrainerOptions options = removal_options;
  options.steps = 1;
  const auto rows = [&](auto& model, const Windows& windows) {
    const auto& all = model.parameters().all();
    const auto table = [&](const std::string& name) {
      for (const auto& parameter : all) {
        if (parameter.name == name) return model.parameters().read(model.device(), parameter);
      }
      return std::vector<float>();
    };
    const auto tokens = table("wte.weight"), positions = table("wpe.weight");
    const int context = model.config.context, width = model.config.width;
    std::vector<double> variances;
    WindowBatch memory(1, context);
    for (int w = 0; w < options.batch_size * options.accumulate; ++w) {
      memory.read(windows, w, 0);
      const auto window = memory.batch(1).tokens;
      for (int t = 0; t < context; ++t) {
        double sum = 0, squares = 0;
        for (int j = 0; j < width; ++j) {
          double x = static_cast<double>(
              tokens[static_cast<std::size_t>(window[static_cast<std::size_t>(t)] * width + j)]);
          if (!positions.empty())
            x += static_cast<double>(positions[static_cast<std::size_t>(t * width + j)]);
          sum += x;
          squares += x * x;
        }
        variances.push_back(squares / width - sum / width * sum / width);
      }
    }
    return variances;
  };
  {
    Removing<TaperedModel> run(options);
    TaperedModel model(2);
    initialize_unevenly(model);
    double above = 0, below = 0;
    for (const double variance : rows(model, run.windows)) {
      above += variance / std::sqrt(variance + 1e-5);
      below += variance;
    }
    run.train(model, "run");
    BOOST_TEST(setting_of(model, "h.0.ln_1.scale") == static_cast<float>(above / below),
               boost::test_tools::tolerance(1e-5f));
  }
  Removing<StagedModel> run(options);
  StagedModel model(2);
  initialize_unevenly(model);
  double sum = 0;
  const auto variances = rows(model, run.windows);
  for (const double variance : variances) sum += 1 / std::sqrt(variance + 1e-5);
  run.train(model, "run");
  for (const char* name : {"h.0.ln_1.scale", "h.0.ln_1_v.scale", "h.0.ln_2.scale"})
    BOOST_TEST(setting_of(model, name) == static_cast<float>(sum / static_cast<double>(variances.size())),
               boost::test_tools::tolerance(1e-5f));
}

BOOST_AUTO_TEST_CASE(a_removal_must_begin_before_it_ends) {
  for (const NormRemovalOptions removal :
       {NormRemovalOptions{0.5, 0.5}, {0.6, 0.2}, {-0.1, 0.5}, {0.5, 1.1}}) {
    Removing<TaperedModel> run(removal_options, removal);
    TaperedModel model(2);
    BOOST_CHECK_EXCEPTION(run.train(model, "run"), Error, contains("removal_from", "removal_to"));
  }
}

BOOST_AUTO_TEST_CASE(what_cannot_be_folded_is_refused) {
  Architecture architecture{.norm = "layer_norm",
                            .final_norm = "layer_norm",
                            .activation = "",
                            .layout = "pre_norm",
                            .objective = ""};
  NamedTensors none;
  BOOST_CHECK_EXCEPTION(fold_norms(architecture, none), Error, contains("nothing to fold", "layer_norm"));
  architecture.norm = "tapered";
  architecture.layout = "post_norm";
  BOOST_CHECK_EXCEPTION(fold_norms(architecture, none), Error, contains("post_norm", "cannot be folded"));
}

BOOST_AUTO_TEST_SUITE_END()
