/// Continues texts with a trained model: a checkpoint of lnfree's, or a Hugging Face GPT-2 or GPT-NeoX.
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <deque>
#include <exception>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <unistd.h>

#ifdef LNFREE_EXAMPLES_BF16
#include <lnfree/device/cpu/bf16.hpp>
#endif
#include <lnfree/checkpoint/open_model.hpp>
#include <lnfree/data/tokenizer.hpp>
#include <lnfree/device/cpu/share_cores.hpp>
#include <lnfree/nn/generate.hpp>

#include "command_line.hpp"
#include "configurations.hpp"
#include "model_tokenizer.hpp"

using namespace lnfree;

namespace {

struct Options {
  std::filesystem::path checkpoint, tokenizer;
  std::optional<std::string> prompt;
  std::filesystem::path prompts;
  bool interactive = false;
  int tokens = 100;
  std::vector<std::string> stops;
  SamplingOptions sampling{.temperature = 0.8, .top_k = 40};
  int context = 0, batch_size = 0;
  std::string dtype = "float32";
  bool tells_speed = false;
};

/// A model limited to its tokenizer's vocabulary: a model with a larger vocabulary than that of its corpus
/// has logits for tokens that do not exist.
struct LimitedModel {
  std::function<std::vector<std::vector<double>>(std::span<const CachedText>)> read;
  std::function<void(int)> forget;
  int vocab_size;
  int context;
  int batch;

  int max_batch() const { return batch; }
  std::vector<std::vector<double>> next_logits_of(std::span<const CachedText> texts) {
    std::vector<std::vector<double>> logits = read(texts);
    for (std::vector<double>& of_text : logits) of_text.resize(static_cast<std::size_t>(vocab_size));
    return logits;
  }
  std::vector<double> next_logits(std::span<const std::int32_t> tokens) {
    const CachedText text{0, tokens};
    return std::move(next_logits_of({&text, 1}).front());
  }
};

/// The default of --batch-size: as many texts as share a pass.
constexpr int usual_batch = DynamicDecoder<Cpu>::texts_together;

template <class Device>
LimitedModel open_limited_model(const Options& options) {
  OpenOptions opened{.purpose = Purpose::generation, .context = options.context};
  if (!options.prompts.empty()) {
    opened.max_batch = options.batch_size == 0 ? usual_batch : options.batch_size;
    opened.min_batch = options.batch_size == 0 ? 1 : 0;
  }
  std::shared_ptr model =
      open_model<Device, NoObserver, configurations::Policies>(options.checkpoint, opened);
  return {[model](std::span<const CachedText> texts) { return model->next_logits_of(texts); },
          [model](int slot) { model->forget(slot); }, model->config.vocab_size, model->config.context,
          model->max_batch()};
}

LimitedModel open_limited_model(const Options& options) {
#ifdef LNFREE_EXAMPLES_BF16
  if (options.dtype == "bfloat16") return open_limited_model<CpuBF16>(options);
#else
  if (options.dtype == "bfloat16")
    throw Error("this program was built without oneDNN, which --dtype bfloat16 needs; install libdnnl-dev");
#endif
  return open_limited_model<Cpu>(options);
}

void print(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  require_standard_output();
}

/// Passes text on, piece by piece, up to the first stop string. Text that may be the beginning of a stop
/// string is held back.
class UntilStop {
 public:
  UntilStop(const std::vector<std::string>& stops, std::function<void(std::string_view)> out)
      : stops_(stops), out_(std::move(out)) {}

  /// Adds text; returns whether to continue.
  bool add(std::string_view piece) {
    held_ += piece;
    std::size_t end = held_.npos;
    for (const std::string& stop : stops_) end = std::min(end, held_.find(stop));
    if (end != held_.npos) {
      out_(std::string_view(held_).substr(0, end));
      held_.clear();
      return false;
    }
    std::size_t keep = 0;
    for (const std::string& stop : stops_) {
      for (std::size_t n = std::min(stop.size() - 1, held_.size()); n > keep; --n) {
        if (held_.ends_with(std::string_view(stop).substr(0, n))) keep = n;
      }
    }
    out_(std::string_view(held_).substr(0, held_.size() - keep));
    held_.erase(0, held_.size() - keep);
    return true;
  }

  /// Passes on the text that was held back.
  void finish() {
    out_(held_);
    held_.clear();
  }

 private:
  const std::vector<std::string>& stops_;
  std::function<void(std::string_view)> out_;
  std::string held_;
};

/// Continues texts, and counts the tokens and the seconds they take.
class Generator {
 public:
  Generator(const Options& options, const Tokenizer& tokenizer, LimitedModel model)
      : options_(options),
        tokenizer_(tokenizer),
        model_(std::move(model)),
        end_of_text_(tokenizer.end_of_text()) {}

  /// Continues `tokens`, drawing with the seed, and passes the added text to `out`. Stops before a stop
  /// string, and at the end of a text.
  void extend(std::vector<std::int32_t>& tokens, std::uint64_t seed,
              const std::function<void(std::string_view)>& out) {
    UntilStop text(options_.stops, out);
    SamplingOptions sampling = options_.sampling;
    sampling.seed = seed;
    std::size_t length = tokens.size();
    const auto begin = Clock::now();
    tokens = generate(model_, tokens, options_.tokens, sampling,
                      [&](std::int32_t token) { return goes_on(++length, token, text); });
    text.finish();
    seconds_ += seconds_since(begin);
  }

  /// Continues several texts together. next(must_wait) returns the tokens of the next text, as in
  /// generate_together(). end(number, text, added) receives the text added to text `number`, counted from 0,
  /// and the number of its tokens. Each text uses the seed of the previous one plus 1.
  template <class Next, class End>
  void extend_together(const Next& next, const End& end) {
    std::uint64_t asked = 0;
    const auto begin = Clock::now();
    double elsewhere = 0;
    generate_together(model_, [&](bool must_wait) -> std::optional<TextToContinue> {
      const auto asks = Clock::now();
      const std::optional<std::vector<std::int32_t>> tokens = next(must_wait);
      elsewhere += seconds_since(asks);
      if (!tokens) return std::nullopt;
      struct State {
        State(const Options& options, std::size_t length)
            : before(length),
              length(length),
              until_stop(options.stops, [this](std::string_view piece) { text += piece; }) {}
        std::size_t before, length;
        std::string text;
        UntilStop until_stop;
      };
      const auto state = std::make_shared<State>(options_, tokens->size());
      const std::uint64_t number = asked++;
      SamplingOptions sampling = options_.sampling;
      sampling.seed += number;
      return TextToContinue{
          *tokens, options_.tokens, sampling,
          [this, state](std::int32_t token) { return goes_on(++state->length, token, state->until_stop); },
          [state, number, &end](std::span<const std::int32_t>) {
            state->until_stop.finish();
            end(number, state->text, state->length - state->before);
          }};
    });
    seconds_ += seconds_since(begin) - elsewhere;
  }

  std::vector<std::int32_t> encode(const std::string& prompt) const { return tokenizer_.encode(prompt); }

  void tell_speed() const {
    std::fprintf(stderr, "%lld tokens in %.2f s, %.1f tokens/s, prompts included\n",
                 static_cast<long long>(added_), seconds_, static_cast<double>(added_) / seconds_);
  }

 private:
  using Clock = std::chrono::steady_clock;
  static double seconds_since(Clock::time_point begin) {
    return std::chrono::duration<double>(Clock::now() - begin).count();
  }

  /// Handles a new token of a text that now has `length` tokens; returns whether to continue.
  bool goes_on(std::size_t length, std::int32_t token, UntilStop& text) {
    ++added_;
    warn_beyond_context(length);
    return token != end_of_text_ && text.add(tokenizer_.decode({&token, 1}));
  }

  void warn_beyond_context(std::size_t length) {
    if (std::exchange(warned_, warned_ || length > static_cast<std::size_t>(model_.context)) || !warned_)
      return;
    std::fprintf(stderr,
                 "note: the text is longer than the model's context of %d tokens: from here on each token "
                 "sees between half of it and all of it\n",
                 model_.context);
  }

  const Options& options_;
  const Tokenizer& tokenizer_;
  LimitedModel model_;
  std::optional<std::int32_t> end_of_text_;
  bool warned_ = false;
  long long added_ = 0;
  double seconds_ = 0;
};

/// Reads a line without its end, which may be that of Windows. Returns whether there was one.
bool read_line(std::istream& in, std::string& line) {
  if (!std::getline(in, line)) return false;
  if (line.ends_with('\r')) line.pop_back();
  return true;
}

/// A prompt in a line of a file: a JSON object with "prompt", a JSON string, or plain text.
std::string prompt_in(const std::string& line, const std::string& place) {
  if (!line.starts_with('{') && !line.starts_with('"')) return line;
  const Json json = parse_json(line);
  if (json.is_string()) return json.get<std::string>();
  if (json.is_object() && json.value("prompt", Json()).is_string()) return json["prompt"].get<std::string>();
  if (line.starts_with('"')) return line;  // a quotation
  throw Error(place + " is not a JSON object with a text \"prompt\"");
}

/// Writes one line of JSON for each prompt in the file, in order, each as soon as it and the earlier ones are
/// done. An error in a line is reported after the earlier prompts are done.
void answer_prompts(const Options& options, Generator& generator) {
  std::ifstream file;
  const bool is_stdin = options.prompts == "-";
  if (!is_stdin) file.open(options.prompts);
  std::istream& in = is_stdin ? std::cin : file;
  if (!in)
    throw Error("cannot read " + options.prompts.string() + ": " + system_message(options.prompts, errno));
  // in_avail() then reports what has arrived, so a user who types a prompt and waits gets the answer.
  if (is_stdin) std::ios::sync_with_stdio(false);
  std::deque<std::string> prompts;               // without an answer in the output yet
  std::map<std::uint64_t, std::string> answers;  // finished, but waiting for earlier ones
  std::uint64_t answered = 0;
  std::exception_ptr failure;
  const auto next_line = [&]() -> std::optional<std::vector<std::int32_t>> {
    std::string line;
    if (!read_line(in, line)) {
      if (in.bad())
        throw Error("cannot read " + options.prompts.string() + "; a file of prompts was expected");
      return std::nullopt;
    }
    const std::string place =
        options.prompts.string() + ", line " + std::to_string(answered + prompts.size() + 1);
    if (line.empty()) throw Error(place + " is empty; give a text to continue");
    prompts.push_back(prompt_in(line, place));
    std::vector<std::int32_t> tokens = generator.encode(prompts.back());
    if (tokens.empty()) throw Error(place + " has an empty prompt; give a text to continue");
    return tokens;
  };
  const auto next = [&](bool must_wait) -> std::optional<std::vector<std::int32_t>> {
    if (failure || (is_stdin && !must_wait && in.rdbuf()->in_avail() <= 0)) return std::nullopt;
    try {
      return next_line();
    } catch (...) {
      failure = std::current_exception();
      return std::nullopt;
    }
  };
  generator.extend_together(next, [&](std::uint64_t number, const std::string& text, std::size_t added) {
    const Json answer{
        {"prompt", prompts[static_cast<std::size_t>(number - answered)]}, {"text", text}, {"tokens", added}};
    answers[number] = answer.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
    for (; answers.contains(answered); ++answered) {
      print(answers.extract(answered).mapped());
      prompts.pop_front();
    }
  });
  if (failure) std::rethrow_exception(failure);
}

/// Continues what the user types, each line added to the same text.
void converse(const Options& options, Generator& generator) {
  const bool asks = ::isatty(STDIN_FILENO) != 0;
  if (asks) std::fprintf(stderr, "Type a text and Enter; the model continues it. Ctrl-D ends.\n");
  std::string line = options.prompt.value_or("");
  std::vector<std::int32_t> tokens;
  std::uint64_t seed = options.sampling.seed;
  bool has_line = options.prompt.has_value();
  for (; has_line || read_line(std::cin, line); has_line = false) {
    const std::vector<std::int32_t> typed = generator.encode(line);
    tokens.insert(tokens.end(), typed.begin(), typed.end());
    if (tokens.empty()) continue;
    generator.extend(tokens, seed++, print);
    print("\n");
  }
}

void run(const Options& options) {
  const Tokenizer tokenizer = open_tokenizer(options.tokenizer, options.checkpoint);
  LimitedModel model = open_limited_model(options);
  check_tokenizer(tokenizer, options.tokenizer, options.checkpoint,
                  std::exchange(model.vocab_size, tokenizer.vocab_size()));
  Generator generator(options, tokenizer, std::move(model));
  if (options.interactive) {
    converse(options, generator);
  } else if (!options.prompts.empty()) {
    answer_prompts(options, generator);
  } else {
    std::string prompt = *options.prompt;
    if (prompt == "-") prompt.assign(std::istreambuf_iterator<char>(std::cin), {});
    if (prompt.empty()) throw Error("the prompt on standard input is empty; give a text to continue");
    std::vector<std::int32_t> tokens = generator.encode(prompt);
    print(prompt);
    generator.extend(tokens, options.sampling.seed, print);
    print("\n");
  }
  if (options.tells_speed) generator.tell_speed();
}

}  // namespace

int main(int argc, char** argv) {
  cpu::share_cores(argv);
  CommandLine app("Continues texts with a trained model.", argv);
  Options options;
  app.add_checkpoint(options.checkpoint);
  app.add_tokenizer(options.tokenizer);
  app.add_option("--prompt", options.prompt, "Text to continue; -: all of standard input")->type_name("TEXT");
  app.add_value(
      "--prompts", options.prompts, "FILE",
      "Texts to continue, a line each: as it is, a JSON string, or a JSON object with \"prompt\"; -: "
      "standard input. Writes a line of JSON for each");
  app.add_count("--batch-size", options.batch_size, 0,
                ("Texts of --prompts that advance together; 0: " + std::to_string(usual_batch) +
                 ", or fewer where memory is short")
                    .c_str(),
                1024);
  app.add_flag("--interactive", options.interactive, "Continue what is typed, line after line");
  app.add_count("--tokens", options.tokens, 0, "Maximum number of tokens to add");
  app.add_option("--stop", options.stops, "Stop before this text; may be given several times")
      ->type_name("TEXT")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  app.add_real("--temperature", options.sampling.temperature, "0: always the most likely token");
  app.add_count("--top-k", options.sampling.top_k, 0, "Draw from the k most likely tokens; 0: from all");
  app.add_real("--top-p", options.sampling.top_p,
               "Draw from the most likely tokens that have this share of the probability together", 1);
  app.add_real("--min-p", options.sampling.min_p,
               "Draw from the tokens at least this share as likely as the most likely one", 1);
  app.add_real("--repetition-penalty", options.sampling.repetition_penalty,
               "Divides the logits of tokens that are already in the text; 1: none");
  app.add_count("--seed", options.sampling.seed, std::uint64_t{0},
                "Random seed; the n-th of several texts uses the seed plus n - 1");
  app.add_count("--context", options.context, 0,
                "Tokens that the model attends to at most; 0: the model's context");
  app.add_option("--dtype", options.dtype, "Type of the weights: float32 or bfloat16")
      ->type_name("TYPE")
      ->capture_default_str()
      ->check([](const std::string& type) {
        return type == "float32" || type == "bfloat16" ? std::string()
                                                       : type + " is neither float32 nor bfloat16";
      });
  app.add_flag("--speed", options.tells_speed, "Report the speed on standard error");
  app.callback([&] {
    const int sources = options.prompt.has_value() + !options.prompts.empty();
    if (sources == 0 && !options.interactive)
      throw CLI::ValidationError("one of --prompt, --prompts and --interactive is required");
    if (sources == 2 || (options.interactive && !options.prompts.empty()))
      throw CLI::ValidationError("--prompts cannot be used with --prompt or --interactive");
    if (options.prompt && options.prompt->empty())
      throw CLI::ValidationError("--prompt is empty; give a text to continue");
    for (const std::string& stop : options.stops)
      if (stop.empty()) throw CLI::ValidationError("--stop is empty; give a text to stop before");
    try {
      check(options.sampling);
    } catch (const Error& error) {
      throw CLI::ValidationError(error.what());
    }
  });
  if (const auto status = app.read(argc, argv)) return *status;
  try {
    options.checkpoint = present_checkpoint(options.checkpoint);
    run(options);
  } catch (const std::exception& error) {
    return complain("generate", sentence_about(error));
  }
}
