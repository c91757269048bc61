// Turns source code or other text into token shards: removes duplicates, splits documents into training and
// held-out, trains a tokenizer or uses a given one, cuts every document into windows of T tokens or packs
// them one after the other, and writes train.bin, val.bin, their descriptions, the tokenizer and corpus.json
// into one folder. A split that is too large for one shard becomes train_000001.bin, train_000002.bin, ...
// A run that was killed continues where it stopped.

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <lnfree/core/json.hpp>
#include <numeric>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lnfree/core/atomic_file.hpp"
#include "lnfree/core/error.hpp"
#include "lnfree/core/excerpt.hpp"
#include "lnfree/data/corpus.hpp"
#include "lnfree/data/shard_set.hpp"
#include "lnfree/data/shard_set_writer.hpp"
#include "lnfree/data/token_shard.hpp"
#include "lnfree/data/tokenizer.hpp"

#include "command_line.hpp"
#include "terminal.hpp"

namespace {

namespace fs = std::filesystem;
using json = lnfree::Json;

/// A path as a message names it.
std::string name_of(const fs::path& path) {
  return lnfree::excerpt(path.native());
}

/// A path for JSON: absolute, with any bytes. Throws Error if no file can have that path.
std::string text_of(const fs::path& path) {
  std::error_code error;
  const fs::path absolute = fs::weakly_canonical(path, error);
  if (error) throw lnfree::Error(name_of(path) + " cannot be a file or folder: " + error.message() + ".");
  return lnfree::printable(absolute.native());
}

struct Options {
  lnfree::CorpusOptions corpus;
  fs::path out;
  int vocab_size = 4096;
  std::int64_t context = 128;
  std::string chunking = "windows";
  std::string end_of_text;  // a token's name; empty: the tokenizer's own
  fs::path tokenizer;
  std::int64_t sample_bytes = 0;
  std::int64_t max_train_tokens = 0;
  std::int64_t shard_tokens = lnfree::ShardSetWriter::max_shard_tokens;
  bool overwrite = false;
  fs::path json_file, held_out_text;

  std::string folder() const { return text_of(out); }

  bool packs() const { return chunking == "packed"; }

  /// The largest number of tokens up to `tokens` that is whole windows.
  std::int64_t whole_windows(std::int64_t tokens) const { return tokens - tokens % context; }

  /// The arguments that determine the content of the output folder.
  json arguments() const {
    const auto absolute = [](const std::vector<fs::path>& paths) {
      json list = json::array();
      for (const auto& path : paths) list.push_back(text_of(path));
      return list;
    };
    json arguments = {
        {"inputs", absolute(corpus.inputs)},   {"held_out_inputs", absolute(corpus.held_out_inputs)},
        {"held_out", corpus.held_out},         {"seed", corpus.seed},
        {"skip_invalid", corpus.skip_invalid}, {"context", context},
        {"max_train_tokens", max_train_tokens}};
    if (tokenizer.empty()) {
      arguments["vocab_size"] = vocab_size;
      arguments["tokenizer_sample_bytes"] = sample_bytes;
    } else {
      arguments["tokenizer"] = text_of(tokenizer);
    }
    if (!corpus.field.empty()) arguments["field"] = corpus.field;
    if (shard_tokens != whole_windows(lnfree::ShardSetWriter::max_shard_tokens))
      arguments["shard_tokens"] = shard_tokens;
    if (packs()) {
      arguments["chunking"] = chunking;
      arguments["end_of_text"] = end_of_text;
    }
    return arguments;
  }
};

/// A progress line with the speed and the time left, redrawn on a terminal; elsewhere a line at every
/// quarter.
class Progress {
 public:
  /// Of `total` bytes.
  Progress(std::string what, std::int64_t total)
      : what_(std::move(what)), total_(std::max<std::int64_t>(total, 1)) {}

  void update(std::int64_t done) {
    const double share = static_cast<double>(std::min(done, total_)) / static_cast<double>(total_);
    const int percent = static_cast<int>(100 * share);
    if (terminal_) {
      if (seconds() - drawn_ >= 0.1) draw(done, share, percent);
    } else if (percent / 25 != shown_ / 25) {
      shown_ = percent;
      std::printf("%s: %d %%\n", what_.c_str(), percent);
      std::fflush(stdout);
    }
  }

  /// Excludes the first `done` bytes, which an earlier run did, from the speed.
  void begin_at(std::int64_t done) {
    begin_ = done;
    begin_seconds_ = seconds();
  }

  void finish(const std::string& result) {
    std::printf("%s%s: %s (%.1f s)\n", terminal_ ? "\r\033[K" : "", what_.c_str(), result.c_str(), seconds());
    std::fflush(stdout);
  }

 private:
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

  void draw(std::int64_t done, double share, int percent) {
    drawn_ = seconds();
    const double spent = std::max(drawn_ - begin_seconds_, 1e-3);
    const double rate = static_cast<double>(std::max<std::int64_t>(done - begin_, 1)) / spent;
    char numbers[80];
    std::snprintf(numbers, sizeof numbers, "%3d %%  %.1f MB/s  %s left", percent, rate / 1e6,
                  duration(static_cast<double>(std::max<std::int64_t>(total_ - done, 0)) / rate).c_str());
    // A wrapped line could not be redrawn; the last column is left free for the cursor.
    const std::size_t columns = terminal_columns() - 1;
    std::string text = what_ + ": " + numbers;
    text.resize(std::min(text.size(), columns));
    if (const std::size_t colon = what_.size() + 2; colon < text.size())
      text.insert(colon, bar(columns - text.size(), share));
    std::printf("\r\033[K%s", text.c_str());
    std::fflush(stdout);
  }

  std::string what_;
  std::int64_t total_, begin_ = 0;
  bool terminal_ = ::isatty(STDOUT_FILENO) != 0;
  int shown_ = 0;
  double drawn_ = -1, begin_seconds_ = 0;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

/// Writes one split of the corpus to shards.
class Side {
 public:
  /// `limit` is the maximum number of tokens to write, 0 for all. `before` is the note() of an interrupted
  /// run that this one continues, null for a new one.
  Side(const Options& options, const char* split, const char* file, std::int64_t limit,
       const lnfree::Tokenizer& tokenizer, const json& before)
      : packs_(options.packs()),
        context_(options.context),
        limit_(packs_ ? options.whole_windows(limit) : limit),
        shards_(writer(options, split, file, tokenizer, before)) {
    if (before.is_null()) return;
    bytes_ = before.at("bytes");
    tokens_ = before.at("tokens");
  }

  bool full() const { return limit_ != 0 && shards_.size() + (packs_ ? 1 : context_) > limit_; }

  /// Tokens written so far.
  std::int64_t size() const { return shards_.size(); }

  /// The names of the files.
  std::vector<std::string> files() const {
    std::vector<std::string> names;
    for (const fs::path& file : shards_.files()) names.push_back(file.filename().string());
    return names;
  }

  /// The tokens of a document of `bytes` bytes.
  void add(std::size_t bytes, std::span<const std::int32_t> ids) {
    if (full()) return;
    bytes_ += static_cast<std::int64_t>(bytes);
    tokens_ += static_cast<std::int64_t>(ids.size());
    auto keep = static_cast<std::int64_t>(ids.size());
    if (limit_ != 0) keep = std::min(keep, limit_ - shards_.size());
    if (!packs_) keep -= keep % context_;
    if (keep == 0) return;
    shards_.append(ids.first(static_cast<std::size_t>(keep)));
  }

  json report() const {
    const auto& documents = shards_.documents();
    return {
        {"documents", std::accumulate(documents.begin(), documents.end(), std::int64_t{0})},
        {"bytes", bytes_},
        {"tokens", shards_.size()},
        {"windows", shards_.size() / context_},
        {"shards", shards_.size() == 0 ? std::vector<std::string>() : files()},
        {"fingerprint", fingerprint_},
        {"bytes_per_token", tokens_ == 0 ? 0.0 : static_cast<double>(bytes_) / static_cast<double>(tokens_)}};
  }

  /// Syncs what is written to disk, and returns what a run needs to continue from there.
  json note() {
    shards_.flush();
    return {
        {"size", shards_.size()}, {"documents", shards_.documents()}, {"bytes", bytes_}, {"tokens", tokens_}};
  }

  /// Syncs the finished shards to disk, still under their temporary names.
  void complete() {
    shards_.complete();
    fingerprint_.assign(16, '0');
  }

  void commit() {
    shards_.commit();
    fingerprint_ = lnfree::ShardSet::open(shards_.files()).fingerprint();
  }

 private:
  static lnfree::ShardSetWriter writer(const Options& options, const char* split, const char* file,
                                       const lnfree::Tokenizer& tokenizer, const json& before) {
    lnfree::ShardInfo info;
    info.context = options.packs() ? 0 : options.context;  // 0: windows of any size are possible
    info.tokenizer = tokenizer.file_name();
    info.tokenizer_fingerprint = tokenizer.fingerprint();
    info.split = split;
    const auto path = options.out / file;
    if (before.is_null()) return {path, tokenizer.vocab_size(), options.shard_tokens, info};
    return {path,
            tokenizer.vocab_size(),
            options.shard_tokens,
            info,
            before.at("size").get<std::int64_t>(),
            before.at("documents").get<std::vector<std::int64_t>>()};
  }

  bool packs_;
  std::int64_t context_;
  std::int64_t limit_;
  lnfree::ShardSetWriter shards_;  // documents: that gave at least one window, or all that are packed
  std::int64_t bytes_ = 0;         // encoded
  std::int64_t tokens_ = 0;        // encoded, including the dropped short windows
  std::string fingerprint_;        // of the finished shards
};

/// Encodes documents on all cores, some at a time, and writes them in order.
class Encoder {
 public:
  /// `end_of_text`, if given, is written after each document.
  Encoder(const lnfree::Tokenizer& tokenizer, std::optional<std::int32_t> end_of_text, Side& train,
          Side& held_out)
      : tokenizer_(tokenizer), end_of_text_(end_of_text), train_(train), held_out_(held_out) {}

  void add(const lnfree::Document& document) {
    if (side(document.held_out).full()) return;
    batch_.push_back({document.name, std::string(document.content), document.held_out, {}});
    batch_bytes_ += document.content.size();
    if (batch_bytes_ >= 4'000'000) flush();
  }

  void flush() {
    std::exception_ptr failure;
#pragma omp parallel for schedule(dynamic)
    for (std::size_t i = 0; i < batch_.size(); ++i) {
      try {
        encode(batch_[i]);
      } catch (...) {
#pragma omp critical
        if (!failure) failure = std::current_exception();
      }
    }
    if (failure) std::rethrow_exception(failure);
    for (const auto& item : batch_) side(item.held_out).add(item.content.size(), item.ids);
    batch_.clear();
    batch_bytes_ = 0;
  }

  /// Whether every added document has been written.
  bool is_empty() const { return batch_.empty(); }

 private:
  struct Item {
    std::string name, content;
    bool held_out;
    std::vector<std::int32_t> ids;
  };

  Side& side(bool held_out) { return held_out ? held_out_ : train_; }

  void encode(Item& item) const {
    item.ids = tokenizer_.encode(item.content);
    if (tokenizer_.gives_text_back() && tokenizer_.decode(item.ids) != item.content)
      throw lnfree::Error(item.name +
                          " does not come back exactly from its tokens; the tokenizer changes text "
                          "(normalization, added or removed spaces), use another or let one be trained.");
    if (end_of_text_) item.ids.push_back(*end_of_text_);
  }

  const lnfree::Tokenizer& tokenizer_;
  std::optional<std::int32_t> end_of_text_;
  Side& train_;
  Side& held_out_;
  std::vector<Item> batch_;
  std::size_t batch_bytes_ = 0;
};

/// Whether a name is that of a numbered shard or its description: train_000001.bin, val_000002.json.
bool is_numbered(std::string_view name) {
  for (const std::string_view split : {"train_", "val_"})
    if (name.starts_with(split)) {
      name.remove_prefix(split.size());
      return name.size() > 6 && name.find_first_not_of("0123456789") == 6 &&
             (name.substr(6) == ".bin" || name.substr(6) == ".json");
    }
  return false;
}

/// The names of the files in a folder that a prepared one may have besides corpus.json, in order.
std::vector<std::string> output_files(const fs::path& folder) {
  constexpr std::string_view fixed[] = {"train.bin", "train.json",      "val.bin",
                                        "val.json",  "tokenizer.model", "tokenizer.json"};
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (is_numbered(name) || std::find(std::begin(fixed), std::end(fixed), name) != std::end(fixed))
      names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

/// Removes the temporaries of numbered shards that a killed run has left, except those of `kept`.
void remove_temporaries(const fs::path& folder, const std::vector<std::string>& kept) {
  std::vector<fs::path> unused;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(".") || !name.ends_with(".tmp")) continue;
    const std::string shard = name.substr(1, name.size() - 5);
    if (is_numbered(shard) && std::find(kept.begin(), kept.end(), shard) == kept.end())
      unused.push_back(entry.path());
  }
  for (const fs::path& path : unused) fs::remove(path);
}

/// The note that a run keeps in its folder while it encodes, from which another run continues if it is
/// killed.
constexpr const char* note_name = ".prepare_corpus.json";

std::string count(std::int64_t number, const std::string& what) {
  return std::to_string(number) + " " + what + (number == 1 ? "" : "s");
}

/// The size of the inputs, which shows whether they have changed without reading them.
json extent(const lnfree::Corpus& corpus) {
  return {{"files", corpus.input_files()}, {"bytes", corpus.input_bytes()}};
}

std::string words(const json& extent) {
  return count(extent.value("files", std::int64_t{0}), "file") + " of " +
         count(extent.value("bytes", std::int64_t{0}), "byte");
}

/// A path, or a list of paths, relative to `folder`.
json relative_to(const fs::path& folder, json paths) {
  if (paths.is_string()) return fs::path(paths.get<std::string>()).lexically_relative(folder).string();
  if (paths.is_array())
    for (json& path : paths) path = relative_to(folder, path);
  return paths;
}

/// Makes the paths among the arguments relative to `folder`, so that they stay equal when all are moved
/// together.
json seen_from(const fs::path& folder, json arguments) {
  for (const char* name : {"inputs", "held_out_inputs", "tokenizer"})
    if (arguments.contains(name)) arguments[name] = relative_to(folder, arguments[name]);
  return arguments;
}

/// The names of the arguments in which two sets differ, with commas between them.
std::string differing_names(const json& these, const json& those) {
  std::string names;
  const auto add = [&](const std::string& name) { names += (names.empty() ? "" : ", ") + name; };
  for (const auto& [name, value] : these.items())
    if (those.value(name, json()) != value) add(name);
  for (const auto& [name, value] : those.items())
    if (!these.contains(name)) add(name);
  return names;
}

/// The report of an earlier run into this folder with the same arguments on the same inputs, if there is one.
/// Throws Error if the folder holds something else and may not be overwritten.
std::optional<json> earlier_report(const Options& options, const lnfree::Corpus& corpus) {
  if (options.overwrite) return std::nullopt;
  const auto report_file = options.out / "corpus.json";
  const auto here = [&](const fs::path& name) { return fs::exists(options.out / name); };
  if (!fs::exists(report_file)) {
    // A run that is killed while renaming its files leaves its note beside them.
    for (const std::string& name : output_files(options.out))
      if (here(name) && !here(note_name))
        throw lnfree::Error(name_of(options.out) + " holds a " + name +
                            " but no corpus.json, so it is not a finished corpus of this program; choose "
                            "another --out or give --overwrite.");
    return std::nullopt;
  }
  std::ifstream file(report_file);
  json report = json::parse(file, nullptr, false);
  if (!report.is_object() || !report["arguments"].is_object() || !report["held_out"].is_object())
    throw lnfree::Error(name_of(report_file) +
                        " was not written by this program; choose another --out or give "
                        "--overwrite.");
  json arguments = options.arguments();
  json recorded = report["arguments"];
  // A given tokenizer is compared by its content, not by its path. Corpora of early versions only have the
  // path.
  if (arguments.contains("tokenizer") && recorded.contains("tokenizer") &&
      report.contains("tokenizer_fingerprint")) {
    if (lnfree::Tokenizer::load(options.tokenizer).fingerprint() == report["tokenizer_fingerprint"]) {
      arguments.erase("tokenizer");
      recorded.erase("tokenizer");
    } else {
      recorded["tokenizer"] = nullptr;
    }
  }
  const bool moved_along =
      report.value("folder", json()).is_string() &&
      seen_from(report["folder"].get<std::string>(), recorded) == seen_from(options.folder(), arguments);
  if (recorded != arguments && !moved_along)
    throw lnfree::Error(name_of(options.out) + " holds a corpus prepared with other arguments (" +
                        differing_names(arguments, recorded) +
                        "); choose another --out or give --overwrite.");
  // Corpora of earlier versions do not have this.
  if (report.contains("inputs") && report["inputs"] != extent(corpus))
    throw lnfree::Error(name_of(options.out) + " holds a corpus made from other contents of the inputs (" +
                        words(report["inputs"]) + " then, " + words(extent(corpus)) +
                        " now); choose another --out or give --overwrite.");
  // Corpora of earlier versions have no list of shards, only one for each split.
  const bool held_out = report["held_out"].value("windows", std::int64_t{0}) > 0;
  const auto tokenizer = report.value("tokenizer", json());
  std::vector<std::string> shards;
  for (const auto& [side, file] : {std::pair("train", "train.bin"), std::pair("held_out", "val.bin")})
    if (side == std::string_view("train") || held_out)
      for (const json& shard : report[side].value("shards", json::array({file})))
        shards.push_back(shard.get<std::string>());
  const bool complete = here(tokenizer == "tokenizer.json" ? "tokenizer.json" : "tokenizer.model") &&
                        std::all_of(shards.begin(), shards.end(), [&](const fs::path& shard) {
                          return here(shard) && here(lnfree::shard_info_path(shard));
                        });
  if (!complete)
    throw lnfree::Error(name_of(options.out) +
                        " lacks files that its corpus.json lists; give --overwrite to "
                        "prepare them again.");
  return report;
}

/// The token after each document, or nothing if documents are cut into windows. Throws Error if the tokenizer
/// has none.
std::optional<std::int32_t> end_of_text(const Options& options, const lnfree::Tokenizer& tokenizer) {
  if (!options.packs()) return std::nullopt;
  const std::string where = options.tokenizer.empty() ? "the trained tokenizer" : name_of(options.tokenizer);
  if (!options.end_of_text.empty()) {
    if (const auto id = tokenizer.find(options.end_of_text)) return id;
    throw lnfree::Error(where + " has no token " + lnfree::excerpt(options.end_of_text) +
                        "; --end-of-text takes the name of one that it has.");
  }
  if (const auto id = tokenizer.end_of_text()) return id;
  throw lnfree::Error(where +
                      " has no end-of-text token with a known name, which --chunking packed puts between "
                      "documents; name one of its tokens with --end-of-text.");
}

/// The state of a run that was killed.
struct Interrupted {
  json note;
  lnfree::Tokenizer tokenizer;
};

/// What a killed run with the same arguments and inputs left in the folder, if it is complete.
std::optional<Interrupted> find_interrupted(const Options& options, const lnfree::Corpus& corpus) {
  std::ifstream file(options.out / note_name);
  if (!file) return std::nullopt;
  const json note = json::parse(file, nullptr, false);
  try {
    // A given tokenizer is compared below, by its content.
    json arguments = options.arguments(), recorded = note.at("arguments");
    if (arguments.contains("tokenizer") && recorded.contains("tokenizer"))
      recorded["tokenizer"] = arguments["tokenizer"];
    if (recorded != arguments || note.at("inputs") != extent(corpus)) return std::nullopt;
    auto tokenizer = lnfree::Tokenizer::load(
        options.tokenizer.empty() ? lnfree::AtomicFile::temporary_of(options.out / "tokenizer.model")
                                  : options.tokenizer);
    for (const auto& [side, name] : {std::pair("train", "train.bin"), std::pair("held_out", "val.bin")}) {
      const std::int64_t tokens = note.at(side).at("size");
      const std::int64_t shards = lnfree::ShardSetWriter::count(tokens, options.shard_tokens);
      if (std::ssize(note.at(side).at("documents").get<std::vector<std::int64_t>>()) != shards ||
          !lnfree::ShardSetWriter::has_left(options.out / name, tokenizer.vocab_size(), options.shard_tokens,
                                            tokens))
        return std::nullopt;
    }
    if (note.at("tokenizer_fingerprint") != tokenizer.fingerprint()) return std::nullopt;
    return Interrupted{note, std::move(tokenizer)};
  } catch (const std::exception&) {  // incomplete: start from the beginning
    return std::nullopt;
  }
}

/// The note of the current run, which is removed unless the run is killed.
class Note {
 public:
  explicit Note(const Options& options) : path_(options.out / note_name) {}
  Note(const Note&) = delete;
  ~Note() {
    std::error_code error;
    if (written_) fs::remove(path_, error);
  }

  /// Whether it is time to write the note again.
  bool is_due() const { return std::chrono::steady_clock::now() >= next_; }

  void write(const json& note) {
    lnfree::write_file(path_, note.dump() + "\n");
    written_ = true;
    next_ = std::chrono::steady_clock::now() + std::chrono::seconds(5);
  }

  /// Keeps the note of an interrupted run.
  void keep() { written_ = true; }

 private:
  fs::path path_;
  bool written_ = false;
  std::chrono::steady_clock::time_point next_{};
};

lnfree::Tokenizer make_tokenizer(const Options& options, const lnfree::Corpus& corpus, json& report) {
  if (!options.tokenizer.empty()) {
    auto tokenizer = lnfree::Tokenizer::load(options.tokenizer);
    if (options.vocab_size != 0 && options.vocab_size != tokenizer.vocab_size())
      throw lnfree::Error(
          name_of(options.tokenizer) + " has a vocabulary of " + std::to_string(tokenizer.vocab_size()) +
          ", not of " + std::to_string(options.vocab_size) + "; leave --vocab-size out or give that number.");
    return tokenizer;
  }
  Progress reading("reading", corpus.input_bytes());
  lnfree::DocumentSample sample(options.sample_bytes);
  const auto counts = corpus.visit([&](const lnfree::Document& document) {
    if (!document.held_out) sample.add(document);
    reading.update(document.input_bytes);
  });
  if (counts.train == 0)
    throw lnfree::Error("no document is left for training: all " + count(counts.held_out, "document") +
                        " are held out; lower --held-out.");
  reading.finish(count(counts.seen, "document") + ", " + std::to_string(counts.kept) + " kept, " +
                 std::to_string(counts.held_out) + " of them held out");
  Progress training("training the tokenizer on " + std::to_string(sample.bytes()) + " bytes", 1);
  report["tokenizer_sample_bytes"] = sample.bytes();
  const std::string packed =
      options.end_of_text.empty() ? lnfree::Tokenizer::ends_of_text[0] : options.end_of_text;
  auto tokenizer =
      lnfree::Tokenizer::train(sample.take(), options.vocab_size, options.packs() ? packed : std::string());
  training.finish(count(tokenizer.vocab_size(), "piece"));
  return tokenizer;
}

/// Creates a folder and its parents. Unless they are kept, those that are new and empty are removed again.
class NewFolder {
 public:
  explicit NewFolder(const fs::path& path) {
    std::error_code error;
    for (fs::path above = path; !above.empty() && !fs::exists(above, error); above = above.parent_path())
      new_.push_back(above);
    fs::create_directories(path, error);
    if (!error) return;
    remove();
    throw lnfree::Error(name_of(path) + " cannot be created: " + error.message() + ".");
  }
  NewFolder(const NewFolder&) = delete;
  ~NewFolder() { remove(); }

  void keep() { new_.clear(); }

 private:
  void remove() {
    std::error_code not_empty;
    for (const fs::path& path : new_) fs::remove(path, not_empty);
  }

  std::vector<fs::path> new_;  // the innermost first
};

json prepare(const Options& options, const lnfree::Corpus& corpus) {
  json report = {
      {"arguments", options.arguments()}, {"folder", options.folder()}, {"inputs", extent(corpus)}};
  NewFolder folder(options.out);
  std::error_code error;
  for (const std::string& name : output_files(options.out))
    if (const auto status = fs::status(options.out / name, error);
        fs::exists(status) && !fs::is_regular_file(status))
      throw lnfree::Error(name_of(options.out / name) +
                          " exists and is not a file; remove it or choose another --out.");

  // Opened before the long work, so that an output folder that cannot be written is reported at once.
  lnfree::AtomicFile report_file(options.out / "corpus.json");
  auto interrupted = find_interrupted(options, corpus);
  const json before = interrupted ? interrupted->note : json();
  const auto of = [&](const char* side) { return interrupted ? before.at(side) : json(); };
  Note note(options);
  if (interrupted) note.keep();
  const auto tokenizer =
      interrupted ? std::move(interrupted->tokenizer) : make_tokenizer(options, corpus, report);
  if (before.contains("tokenizer_sample_bytes"))
    report["tokenizer_sample_bytes"] = before["tokenizer_sample_bytes"];
  const auto end = end_of_text(options, tokenizer);
  lnfree::AtomicFile tokenizer_file(options.out / tokenizer.file_name());
  tokenizer_file.write(tokenizer.model().data(), tokenizer.model().size());
  tokenizer_file.flush();
  Side train(options, "train", "train.bin", options.max_train_tokens, tokenizer, of("train"));
  Side held_out(options, "held-out", "val.bin", 0, tokenizer, of("held_out"));
  const auto shard_files = [&](bool with_held_out) {
    auto names = train.files();
    if (with_held_out)
      for (auto& name : held_out.files()) names.push_back(std::move(name));
    for (std::size_t i = 0, shards = names.size(); i < shards; ++i)
      names.push_back(lnfree::shard_info_path(names[i]).string());
    return names;
  };
  remove_temporaries(options.out, shard_files(true));
  Encoder encoder(tokenizer, end, train, held_out);
  Progress encoding("encoding", corpus.input_bytes());

  // The documents that an interrupted run encoded are read again, to find duplicates, and verified by a hash
  // of all their hashes.
  const std::int64_t encoded_before = interrupted ? before.at("visited").get<std::int64_t>() : 0;
  if (interrupted)
    std::cout << "continuing an interrupted run: " << count(encoded_before, "document") << " encoded\n"
              << std::flush;
  std::int64_t visited = 0;
  lnfree::ContentHash chain;
  const auto chain_text = [&] { return std::to_string(chain.high) + "," + std::to_string(chain.low); };
  const auto require_unchanged = [&](bool same) {
    if (!same)
      throw lnfree::Error("the inputs are not those of the run that was interrupted in " +
                          name_of(options.out) + "; start it again to prepare them from the beginning.");
  };
  const auto counts = corpus.visit([&](const lnfree::Document& document) {
    const lnfree::ContentHash pair[] = {chain, document.hash};
    chain = lnfree::ContentHash::of({reinterpret_cast<const char*>(pair), sizeof pair});
    if (++visited > encoded_before) {
      encoder.add(document);
      if (encoder.is_empty() && note.is_due()) {
        json text = {{"arguments", options.arguments()},
                     {"inputs", extent(corpus)},
                     {"tokenizer_fingerprint", tokenizer.fingerprint()},
                     {"visited", visited},
                     {"chain", chain_text()},
                     {"train", train.note()},
                     {"held_out", held_out.note()}};
        if (report.contains("tokenizer_sample_bytes"))
          text["tokenizer_sample_bytes"] = report["tokenizer_sample_bytes"];
        note.write(text);
      }
    } else if (visited == encoded_before) {
      require_unchanged(before.at("chain") == chain_text());
      encoding.begin_at(document.input_bytes);
    }
    encoding.update(document.input_bytes);
  });
  require_unchanged(visited >= encoded_before);
  encoder.flush();
  encoding.finish(count(train.size(), "training token") + ", " + count(held_out.size(), "held-out token"));

  const std::string window = " gives one window of " + std::to_string(options.context) + " tokens";
  if (train.size() < (options.packs() ? options.context : 1))
    throw lnfree::Error("none of " + count(counts.train, "training document") + window +
                        "; give a larger corpus, a shorter --context or a larger --max-train-tokens.");
  const bool wants_held_out = options.corpus.held_out > 0 || !options.corpus.held_out_inputs.empty();
  if (wants_held_out && held_out.size() < (options.packs() ? options.context : 1))
    throw lnfree::Error("none of " + count(counts.held_out, "held-out document") + window +
                        "; raise --held-out (0 asks for none) or give a larger corpus.");

  const auto write_report = [&] {
    report["documents"] = counts.json();
    report["context"] = options.context;
    report["chunking"] = options.chunking;
    if (end) report["end_of_text"] = *end;
    report["vocab_size"] = tokenizer.vocab_size();
    report["tokenizer"] = tokenizer.file_name();
    report["tokenizer_fingerprint"] = tokenizer.fingerprint();
    report["train"] = train.report();
    report["held_out"] = held_out.report();
    report["bytes_per_token"] = report["train"]["bytes_per_token"];
    const std::string text = report.dump(2) + "\n";
    report_file.rewind();
    report_file.write(text.data(), text.size());
    report_file.flush();
  };
  // A full disk fails here, while an older corpus is still intact. The report already has its final length.
  train.complete();
  if (wants_held_out) held_out.complete();
  write_report();
  // corpus.json marks a complete folder: the old one is removed before the first file changes, and the new
  // one is written last.
  fs::remove(report_file.target());
  auto names = shard_files(wants_held_out);
  names.push_back(tokenizer.file_name());
  for (const std::string& name : output_files(options.out))
    if (std::find(names.begin(), names.end(), name) == names.end()) fs::remove(options.out / name);
  tokenizer_file.commit();
  train.commit();
  if (wants_held_out) held_out.commit();
  write_report();
  report_file.commit();
  folder.keep();
  return report;
}

/// Writes the held-out documents as text, a line of JSON each.
void write_held_out_text(const lnfree::Corpus& corpus, const fs::path& path) {
  lnfree::AtomicFile file(path);  // not earlier: it may be in --out, which did not exist
  corpus.visit([&](const lnfree::Document& document) {
    if (!document.held_out) return;
    const json line{{"name", document.name}, {"content", document.content}};
    const std::string text = line.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
    file.write(text.data(), text.size());
  });
  file.commit();
}

void run(const Options& options) {
  const lnfree::Corpus corpus(options.corpus);
  // Opened before the long work, too. The report in --out needs no second writer.
  std::optional<lnfree::AtomicFile> json_file;
  if (!options.json_file.empty() && text_of(options.json_file) != text_of(options.out / "corpus.json"))
    json_file.emplace(options.json_file);
  const auto earlier = earlier_report(options, corpus);
  if (earlier)
    std::cout << name_of(options.out) << " already holds this corpus, prepared with the same arguments from "
              << words(extent(corpus)) << "; nothing to do (--overwrite prepares it again)\n";
  const json report = earlier ? *earlier : prepare(options, corpus);
  if (!earlier) {
    const auto& documents = report["documents"];
    std::cout << "documents: " << documents["seen"] << " seen, " << documents["kept"] << " kept, "
              << documents["duplicates"] << " duplicates, " << documents["too_small"] << " too small, "
              << documents["too_large"] << " too large, " << documents["invalid"] << " invalid, "
              << documents["unreadable"]
              << " unreadable; left out: links (not followed): " << documents["links"]
              << ", files of other names: " << documents["other_files"] << "\n";
    if (documents.contains("first_fault"))
      std::cout << "note: some documents could not be used; the first: "
                << documents["first_fault"].get<std::string>() << "\n";
    for (const char* side : {"train", "held_out"})
      std::cout << side << ": " << report[side]["documents"] << " documents, " << report[side]["windows"]
                << " windows of " << options.context << ", " << report[side]["tokens"] << " tokens\n";
    std::printf("vocabulary %d, %.3f bytes per token\nwrote %s\n", report["vocab_size"].get<int>(),
                report["bytes_per_token"].get<double>(), name_of(options.out).c_str());
  }
  if (json_file) {
    const std::string text = report.dump(2) + "\n";
    json_file->write(text.data(), text.size());
    json_file->commit();
  }
  if (!options.held_out_text.empty()) write_held_out_text(corpus, options.held_out_text);
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CommandLine app(
      "Prepares a corpus of source code or other text: tokenizer and token shards for training and "
      "evaluation.",
      argv);
  app.add_value(
         "--input", options.corpus.inputs, "PATH",
         "Folder of *.py files (links in it are not followed), or file with a JSON object on each line "
         "(.jsonl, .json, or compressed as .gz or .zst); may be given several times")
      ->required();
  app.add_value("--held-out-input", options.corpus.held_out_inputs, "PATH",
                "Like --input, but all of it is held out; may be given several times");
  app.add_value("--field", options.corpus.field, "NAME",
                "Field of the JSON objects that holds the document; \"content\", or else \"text\"");
  app.add_value("--out", options.out, "DIR", "Folder for the shards, the tokenizer and corpus.json")
      ->required();
  auto* vocab_size = app.add_count("--vocab-size", options.vocab_size, 1, "Tokens of the tokenizer", 1 << 24);
  app.add_count("--context", options.context, std::int64_t{2}, "Tokens in a window", std::int64_t{1} << 24);
  app.add_value("--chunking", options.chunking, "HOW",
                "windows: cut each document into windows and drop the short last one; packed: one document "
                "after the other, with an end of text after each")
      ->capture_default_str()
      ->check([](const std::string& how) {
        return how == "windows" || how == "packed" ? "" : how + " is neither windows nor packed";
      });
  app.add_value("--end-of-text", options.end_of_text, "TOKEN",
                "Token after each packed document; <|endoftext|>, <|end_of_text|>, </s> or <eos>, which the "
                "tokenizer has");
  auto* held_out = app.add_real("--held-out", options.corpus.held_out,
                                "Share of documents to hold out; 0.03, or 0 with --held-out-input", 1)
                       ->default_str("");
  app.add_count("--seed", options.corpus.seed, std::uint64_t{0}, "Seed for choosing the held-out documents");
  app.add_value("--tokenizer", options.tokenizer, "FILE",
                "Use this tokenizer.model (SentencePiece) or tokenizer.json (Hugging Face, byte-level BPE) "
                "instead of training one");
  app.add_count("--tokenizer-sample-bytes", options.sample_bytes, std::int64_t{1},
                "Bytes of text that the tokenizer is trained on; 2000 for each of its tokens")
      ->default_str("");
  app.add_count("--max-train-tokens", options.max_train_tokens, std::int64_t{0},
                "Stop after this many training tokens, in the order of the inputs; 0: all");
  app.add_count(
      "--shard-tokens", options.shard_tokens, std::int64_t{1},
      "Tokens in a shard, rounded down to whole windows; a split with more becomes train_000001.bin, "
      "train_000002.bin, ...",
      lnfree::ShardSetWriter::max_shard_tokens);
  app.add_flag("--skip-invalid", options.corpus.skip_invalid,
               "Count and skip what cannot be read, is not UTF-8 or not JSON, instead of stopping");
  app.add_flag("--overwrite", options.overwrite, "Replace what --out holds");
  app.add_value("--json", options.json_file, "FILE", "Also write the report to this file");
  app.add_value("--held-out-text", options.held_out_text, "FILE",
                "Also write the held-out documents as text: a JSON object {\"content\": ...} per line");
  if (const auto status = app.read(argc, argv)) return *status;
  if (held_out->empty() && !options.corpus.held_out_inputs.empty()) options.corpus.held_out = 0;
  if (options.sample_bytes == 0) options.sample_bytes = std::int64_t{2000} * options.vocab_size;
  if (!options.tokenizer.empty() && vocab_size->empty()) options.vocab_size = 0;
  try {
    if (options.shard_tokens < options.context)
      throw lnfree::Error("a shard of " + count(options.shard_tokens, "token") + " holds no window of " +
                          std::to_string(options.context) + "; give a larger --shard-tokens.");
    options.shard_tokens = options.whole_windows(options.shard_tokens);
    run(options);
  } catch (const fs::filesystem_error& error) {
    std::cout.flush();
    return complain("prepare_corpus",
                    name_of(error.path1()) + " cannot be used: " + error.code().message() + ".");
  } catch (const std::exception& error) {
    std::cout.flush();
    return complain("prepare_corpus", error.what());
  }
  return 0;
}
