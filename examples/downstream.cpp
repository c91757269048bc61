/// Measures a trained model's abilities on Python source, without the Internet: classes of tokens, names,
/// brackets, repetition, calibration, attention sinks, direct logit attribution.
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include <lnfree/checkpoint/architecture.hpp>
#include <lnfree/checkpoint/open_model.hpp>
#include <lnfree/core/excerpt.hpp>
#include <lnfree/core/random.hpp>
#include <lnfree/device/cpu/share_cores.hpp>
#include <lnfree/observer/observers.hpp>
#include <lnfree/observer/sink_observer.hpp>

#include "command_line.hpp"
#include "configurations.hpp"
#include "downstream/annotated_text.hpp"
#include "downstream/attribution.hpp"
#include "downstream/predictions.hpp"
#include "model_tokenizer.hpp"
#include "result_file.hpp"

using namespace lnfree;
using namespace downstream;

namespace {

using Observer = Observers<PredictionObserver, SinkObserver, AttributionObserver>;
using Model = DynamicDecoder<Cpu, Observer>;

struct Options {
  std::filesystem::path checkpoint, tokenizer, json;
  std::vector<std::filesystem::path> annotated;
  std::int64_t windows = 0;
  int context = 0, batch_size = 8, induction_windows = 64;
  std::uint64_t seed = 0;
};

/// A name counts as copied if its last occurrence began that many tokens ago.
constexpr int nearest_copy = 20, farthest_copy = 100;

/// The sums over all windows.
struct Measures {
  Tally all, copied, first;
  std::array<Tally, class_names.size()> of_class;
  std::array<BracketTally, closing_brackets.size()> of_bracket;
  Calibration calibration;

  void add(const Prediction& prediction, const TokenNote& note, char best_closes) {
    all.add(prediction);
    of_class[static_cast<std::size_t>(note.kind)].add(prediction);
    if (note.distance == 0) first.add(prediction);
    if (note.distance >= nearest_copy && note.distance <= farthest_copy) copied.add(prediction);
    const auto kind = [](char bracket) {
      return bracket == 0 ? -1 : static_cast<int>(closing_brackets.find(bracket));
    };
    if (note.closes != 0)
      of_bracket[static_cast<std::size_t>(kind(note.closes))].add(prediction, kind(note.closes),
                                                                  kind(best_closes));
    calibration.add(prediction);
  }

  BracketTally brackets() const {
    BracketTally sum;
    for (const BracketTally& one : of_bracket) {
      sum.targets += one.targets;
      sum.correct += one.correct;
      sum.share += one.share;
    }
    return sum;
  }
};

/// The closing bracket that each token of the vocabulary begins with, 0 for none.
std::vector<char> closing_of_tokens(const Tokenizer& tokenizer, int vocab_size) {
  std::vector<char> closes(static_cast<std::size_t>(vocab_size));
  for (std::int32_t token = 0; token < tokenizer.vocab_size(); ++token)
    closes[static_cast<std::size_t>(token)] = closing_bracket(tokenizer.decode({&token, 1}));
  return closes;
}

/// Runs windows of one length through the model; each token's target is the next one.
const std::vector<Prediction>& predict_windows(Model& model, std::span<const Window* const> windows) {
  std::vector<std::int32_t> tokens, targets;
  for (const Window* window : windows) {
    tokens.insert(tokens.end(), window->tokens.begin(), window->tokens.end());
    targets.insert(targets.end(), window->tokens.begin() + 1, window->tokens.end());
    targets.push_back(-1);
  }
  model.observer().expect(targets);
  model.loss(
      {{static_cast<int>(windows.size()), static_cast<int>(windows[0]->tokens.size())}, tokens, targets});
  return model.observer().predictions();
}

/// Calls f(windows, predictions) for each batch of windows of equal length.
template <class F>
void for_batches(Model& model, const std::vector<Window>& windows, const F& f) {
  std::vector<const Window*> batch;
  for (std::size_t i = 0; i < windows.size(); ++i) {
    batch.push_back(&windows[i]);
    const bool ends = i + 1 == windows.size() || static_cast<int>(batch.size()) == model.max_batch() ||
                      windows[i + 1].tokens.size() != windows[i].tokens.size();
    if (!ends) continue;
    f(batch, predict_windows(model, batch));
    batch.clear();
  }
}

/// Random tokens, repeated once: the halves of a window are the same.
std::vector<Window> repeated_windows(int count, int context, int vocab_size, std::uint64_t seed) {
  const Philox random(seed, stream_of("induction"));
  const int half = context / 2;
  std::vector<Window> windows(static_cast<std::size_t>(count));
  std::uint64_t drawn = 0;
  for (Window& window : windows) {
    for (int i = 0; i < half; ++i)
      window.tokens.push_back(
          static_cast<std::int32_t>(random(drawn++)[0] % static_cast<std::uint32_t>(vocab_size)));
    window.tokens.insert(window.tokens.end(), window.tokens.begin(), window.tokens.begin() + half);
  }
  return windows;
}

/// How well the second half of repeated windows is predicted, compared with the first. The first token of a
/// half is unpredictable and counts in neither.
Json measure_induction(Model& model, const std::vector<Window>& windows) {
  Tally halves[2];
  for_batches(model, windows, [&](const auto& batch, const std::vector<Prediction>& predictions) {
    const std::size_t length = batch[0]->tokens.size(), half = length / 2;
    for (std::size_t row = 0; row < predictions.size(); ++row) {
      const std::size_t target = row % length + 1;  // its position in the window
      if (target < length && target != half) halves[target > half].add(predictions[row]);
    }
  });
  return {{"windows", windows.size()}, {"first", halves[0].json()}, {"second", halves[1].json()}};
}

void print_line(const std::string& name, const Json& tally) {
  if (tally["targets"] == 0) {
    std::printf("  %-32s %9d\n", name.c_str(), 0);
    return;
  }
  std::printf("  %-32s %9lld %9.2f %%", name.c_str(),
              static_cast<long long>(tally["targets"].get<std::int64_t>()),
              100 * tally["accuracy"].get<double>());
  if (tally.contains("loss")) std::printf(" %9.4f", tally["loss"].get<double>());
  if (tally.contains("probability_share"))
    std::printf("  %.2f %% of the closing probability", 100 * tally["probability_share"].get<double>());
  std::printf("\n");
}

void print_results(const Json& json) {
  std::printf("  %-32s %9s %11s %9s\n", "next token", "tokens", "accuracy", "loss");
  print_line("all", json["all"]);
  for (const auto& [name, tally] : json["classes"].items()) print_line(name, tally);
  print_line(
      "names, " + std::to_string(nearest_copy) + " to " + std::to_string(farthest_copy) + " tokens later",
      json["names"]["copied"]);
  print_line("names, for the first time", json["names"]["first"]);
  print_line("closing brackets", json["brackets"]["all"]);
  if (!json["induction"].is_null()) {
    print_line("random tokens", json["induction"]["first"]);
    print_line("the same repeated", json["induction"]["second"]);
  }
  std::printf("calibration: error %.4f at a mean confidence of %.4f; output entropy %.4f nats\n",
              json["calibration"]["ece"].get<double>(), json["calibration"]["confidence"].get<double>(),
              json["output_entropy"].get<double>());
  std::printf("attention sinks: %.2f %% of the heads\n", 100 * json["sinks"]["sink_rate"].get<double>());
  if (const Json& attribution = json["attribution"]; attribution.is_null()) {
    std::printf("direct logit attribution: none, because a norm is in the residual stream\n");
  } else {
    std::printf("direct logit attribution: error %.3g %%, of attention %.3g %%, sum off by %.3g %%\n",
                100 * attribution["error"].get<double>(), 100 * attribution["attention_error"].get<double>(),
                100 * attribution["sum_error"].get<double>());
  }
}

void run(const Options& options) {
  const ResultFile result_file(options.json);
  const Tokenizer tokenizer = open_tokenizer(options.tokenizer, options.checkpoint);
  std::vector<AnnotatedText> texts;
  for (const auto& path : options.annotated) {
    for (AnnotatedText& text : read_annotated(path)) texts.push_back(std::move(text));
  }
  const auto model = open_model<Cpu, Observer, configurations::Policies>(
      options.checkpoint, {.max_batch = options.batch_size, .context = options.context});
  check_tokenizer(tokenizer, options.tokenizer, options.checkpoint, model->config.vocab_size);

  std::vector<Window> windows;
  for (const AnnotatedText& text : texts) add_windows(text, tokenizer, model->config.context, windows);
  if (options.windows > 0 && static_cast<std::int64_t>(windows.size()) > options.windows)
    windows.resize(static_cast<std::size_t>(options.windows));
  if (windows.empty()) throw Error("the annotated texts have no window of two tokens; annotate more");

  Observer& observer = model->observer();
  const std::vector<char> closes = closing_of_tokens(tokenizer, model->config.vocab_size);
  std::array<std::vector<std::int32_t>, closing_brackets.size()> closing;
  for (std::size_t token = 0; token < closes.size(); ++token) {
    if (closes[token] != 0)
      closing[closing_brackets.find(closes[token])].push_back(static_cast<std::int32_t>(token));
  }
  observer.set_closing(std::move(closing));
  observer.set_model(
      logit_map<configurations::Policies>(*model, read_architecture(options.checkpoint).final_norm),
      centered_output_rows(*model), static_cast<std::size_t>(model->config.width));

  Measures measures;
  for_batches(*model, windows, [&](const auto& batch, const std::vector<Prediction>& predictions) {
    observer.add(predictions);
    const std::size_t length = batch[0]->tokens.size();
    for (std::size_t row = 0; row < predictions.size(); ++row) {
      const Prediction& prediction = predictions[row];
      if (prediction.target < 0) continue;
      measures.add(prediction, batch[row / length]->notes[row % length + 1],
                   closes[static_cast<std::size_t>(prediction.best)]);
    }
  });

  Json json{{"checkpoint", printable(options.checkpoint.native())},
            {"context", model->config.context},
            {"seed", options.seed},
            {"texts", texts.size()},
            {"windows", windows.size()},
            {"all", measures.all.json()}};
  for (std::size_t i = 0; i < class_names.size(); ++i)
    json["classes"][class_names[i]] = measures.of_class[i].json();
  json["names"] = {{"nearest", nearest_copy},
                   {"farthest", farthest_copy},
                   {"copied", measures.copied.json()},
                   {"first", measures.first.json()}};
  json["brackets"]["all"] = measures.brackets().json();
  for (std::size_t i = 0; i < closing_brackets.size(); ++i)
    json["brackets"][std::string(1, closing_brackets[i])] = measures.of_bracket[i].json();
  json["calibration"] = measures.calibration.json();
  json["output_entropy"] = measures.calibration.entropy();
  observer.SinkObserver::report([&](const char* name, const auto& value) { json["sinks"][name] = value; });
  json["attribution"] = observer.AttributionObserver::json();

  // Random sequences do not count in the measures above.
  observer.enable<SinkObserver>(false);
  observer.enable<AttributionObserver>(false);
  json["induction"] = nullptr;
  if (options.induction_windows > 0 && model->config.context >= 4) {
    json["induction"] =
        measure_induction(*model, repeated_windows(options.induction_windows, model->config.context,
                                                   tokenizer.vocab_size(), options.seed));
  }
  std::printf("%zu texts, %zu windows of up to %d tokens\n", texts.size(), windows.size(),
              model->config.context);
  print_results(json);
  result_file.write(json);
}

}  // namespace

int main(int argc, char** argv) {
  cpu::share_cores(argv);
  CommandLine app("Measures a trained model's abilities on Python source.", argv);
  Options options;
  app.add_checkpoint(options.checkpoint);
  app.add_tokenizer(options.tokenizer);
  app.add_value("--annotated", options.annotated, "FILE",
                "Source text as examples/annotate_python.py writes it")
      ->required();
  app.add_count("--windows", options.windows, std::int64_t{0},
                "Maximum number of windows to measure; 0: all");
  app.add_count("--context", options.context, 0, "Tokens in a window; 0: the model's context");
  app.add_count("--batch-size", options.batch_size, 1, "Windows at a time");
  app.add_count("--induction-windows", options.induction_windows, 0,
                "Windows of random tokens that are repeated once; 0: none");
  app.add_count("--seed", options.seed, std::uint64_t{0}, "Seed of the random tokens");
  app.add_output("--json", options.json, "FILE", "Also write the results to this file");
  if (const auto status = app.read(argc, argv)) return *status;
  try {
    options.checkpoint = present_checkpoint(options.checkpoint);
    run(options);
  } catch (const std::exception& error) {
    return complain("downstream", sentence_about(error));
  }
}
