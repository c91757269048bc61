// From Python source code to token shards: de-duplicates, splits by document into training and held-out,
// trains a tokenizer, cuts every document into windows of T tokens (the short last one is dropped, nothing is
// put between documents) and writes train.bin, val.bin, their descriptions, tokenizer.model and corpus.json
// into one folder.

#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <lnfree/core/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lnfree/core/atomic_file.hpp"
#include "lnfree/core/error.hpp"
#include "lnfree/core/excerpt.hpp"
#include "lnfree/data/corpus.hpp"
#include "lnfree/data/token_shard.hpp"
#include "lnfree/data/tokenizer.hpp"

#include "command_line.hpp"

namespace {

namespace fs = std::filesystem;
using json = lnfree::Json;

/// A path as a message names it.
std::string name_of(const fs::path& path) {
  return lnfree::excerpt(path.native());
}

/// A path as JSON holds it: absolute, whatever its bytes are. Throws Error if no file can have it.
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
  fs::path tokenizer;
  std::int64_t sample_bytes = 0;
  std::int64_t max_train_tokens = 0;
  bool overwrite = false;
  fs::path json_file;

  std::string folder() const { return text_of(out); }

  /// What decides the content of the output folder.
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
    return arguments;
  }
};

/// One line that moves on a terminal, a line at every quarter elsewhere.
class Progress {
 public:
  Progress(std::string what, std::int64_t total)
      : what_(std::move(what)), total_(std::max<std::int64_t>(total, 1)) {}

  void update(std::int64_t done) {
    const int percent =
        static_cast<int>(100.0 * static_cast<double>(std::min(done, total_)) / static_cast<double>(total_));
    const int step = terminal_ ? 1 : 25;
    if (percent / step == shown_ / step) return;
    shown_ = percent;
    std::printf(terminal_ ? "\r%s: %3d %%" : "%s: %d %%\n", what_.c_str(), percent);
    std::fflush(stdout);
  }

  void finish(const std::string& result) {
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start_;
    std::printf("%s%s: %s (%.1f s)\n", terminal_ ? "\r\033[K" : "", what_.c_str(), result.c_str(),
                seconds.count());
    std::fflush(stdout);
  }

 private:
  std::string what_;
  std::int64_t total_;
  bool terminal_ = ::isatty(STDOUT_FILENO) != 0;
  int shown_ = 0;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

/// One side of the corpus on its way to a shard.
struct Side {
  std::string split;
  std::int64_t limit = 0;  // tokens to write at most, 0 = all
  lnfree::TokenShardWriter shard;
  std::int64_t documents = 0;  // that gave at least one window
  std::int64_t bytes = 0;      // encoded
  std::int64_t tokens = 0;     // encoded, those of the dropped short windows included
  std::string fingerprint{};   // of the finished shard

  bool full(std::int64_t context) const { return limit != 0 && shard.size() + context > limit; }

  void add(std::string_view content, std::span<const std::int32_t> ids, std::int64_t context) {
    if (full(context)) return;
    bytes += static_cast<std::int64_t>(content.size());
    tokens += static_cast<std::int64_t>(ids.size());
    auto keep = static_cast<std::int64_t>(ids.size());
    if (limit != 0) keep = std::min(keep, limit - shard.size());
    keep -= keep % context;
    if (keep == 0) return;
    ++documents;
    shard.append(ids.first(static_cast<std::size_t>(keep)));
  }

  json report(std::int64_t context) const {
    return {
        {"documents", documents},
        {"bytes", bytes},
        {"tokens", shard.size()},
        {"windows", shard.size() / context},
        {"fingerprint", fingerprint},
        {"bytes_per_token", tokens == 0 ? 0.0 : static_cast<double>(bytes) / static_cast<double>(tokens)}};
  }

  /// Brings the shard to the disk, but for its appearance.
  void complete(std::int64_t context, const std::string& tokenizer_fingerprint) {
    lnfree::ShardInfo info;
    info.context = context;
    info.documents = documents;
    info.tokenizer = "tokenizer.model";
    info.tokenizer_fingerprint = tokenizer_fingerprint;
    info.split = split;
    shard.complete(info);
    fingerprint.assign(16, '0');
  }

  void commit(const fs::path& path) {
    shard.commit();
    fingerprint = lnfree::TokenShard::open(path).fingerprint();
  }
};

/// Encodes documents on all cores, some at a time, and writes them in the order they came.
class Encoder {
 public:
  Encoder(const lnfree::Tokenizer& tokenizer, std::int64_t context, Side& train, Side& held_out)
      : tokenizer_(tokenizer), context_(context), train_(train), held_out_(held_out) {}

  void add(const lnfree::Document& document) {
    if (side(document.held_out).full(context_)) return;
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
    for (const auto& item : batch_) side(item.held_out).add(item.content, item.ids, context_);
    batch_.clear();
    batch_bytes_ = 0;
  }

 private:
  struct Item {
    std::string name, content;
    bool held_out;
    std::vector<std::int32_t> ids;
  };

  Side& side(bool held_out) { return held_out ? held_out_ : train_; }

  void encode(Item& item) const {
    item.ids = tokenizer_.encode(item.content);
    if (tokenizer_.decode(item.ids) != item.content)
      throw lnfree::Error(item.name +
                          " does not come back exactly from its tokens; the tokenizer changes text "
                          "(normalization, added or removed spaces), use another or let one be trained.");
  }

  const lnfree::Tokenizer& tokenizer_;
  std::int64_t context_;
  Side& train_;
  Side& held_out_;
  std::vector<Item> batch_;
  std::size_t batch_bytes_ = 0;
};

/// What a prepared folder holds besides corpus.json.
constexpr const char* output_files[] = {"train.bin", "train.json", "val.bin", "val.json", "tokenizer.model"};

std::string count(std::int64_t number, const std::string& what) {
  return std::to_string(number) + " " + what + (number == 1 ? "" : "s");
}

/// How much there is in the inputs: what tells, without reading them, that they have changed.
json extent(const lnfree::Corpus& corpus) {
  return {{"files", corpus.input_files()}, {"bytes", corpus.input_bytes()}};
}

std::string words(const json& extent) {
  return count(extent.value("files", std::int64_t{0}), "file") + " of " +
         count(extent.value("bytes", std::int64_t{0}), "byte");
}

/// The paths among arguments, as they lie from `folder`: the same when both have moved together.
json seen_from(const fs::path& folder, json arguments) {
  if (arguments.is_string()) {
    return fs::path(arguments.get<std::string>()).lexically_relative(folder).string();
  }
  if (arguments.is_structured()) {
    for (json& argument : arguments) argument = seen_from(folder, argument);
  }
  return arguments;
}

/// The report of an earlier run into this folder with the same arguments on the same inputs, if there is one.
/// Throws Error if the folder holds something else and may not be overwritten.
std::optional<json> earlier_report(const Options& options, const lnfree::Corpus& corpus) {
  if (options.overwrite) return std::nullopt;
  const auto report_file = options.out / "corpus.json";
  const auto here = [&](const char* name) { return fs::exists(options.out / name); };
  if (!fs::exists(report_file)) {
    for (const char* name : output_files)
      if (here(name))
        throw lnfree::Error(name_of(options.out) + " holds a " + name +
                            " but no corpus.json, so it is no finished "
                            "corpus of this program; choose another --out or give --overwrite.");
    return std::nullopt;
  }
  std::ifstream file(report_file);
  json report = json::parse(file, nullptr, false);
  if (!report.is_object() || !report["arguments"].is_object() || !report["held_out"].is_object())
    throw lnfree::Error(name_of(report_file) +
                        " was not written by this program; choose another --out or give "
                        "--overwrite.");
  const json arguments = options.arguments();
  const bool moved_along = report.value("folder", json()).is_string() &&
                           seen_from(report["folder"].get<std::string>(), report["arguments"]) ==
                               seen_from(options.folder(), arguments);
  if (report["arguments"] != arguments && !moved_along) {
    std::string difference;
    for (const auto& [name, value] : arguments.items())
      if (report["arguments"].value(name, json()) != value)
        difference += (difference.empty() ? "" : ", ") + name;
    throw lnfree::Error(name_of(options.out) + " holds a corpus prepared with other arguments (" +
                        difference + "); choose another --out or give --overwrite.");
  }
  // A corpus of an earlier version does not say.
  if (report.contains("inputs") && report["inputs"] != extent(corpus))
    throw lnfree::Error(name_of(options.out) + " holds a corpus of other contents of the inputs (" +
                        words(report["inputs"]) + " then, " + words(extent(corpus)) +
                        " now); choose another --out or give --overwrite.");
  const bool held_out = report["held_out"].value("windows", 0) > 0;
  const bool complete = here("train.bin") && here("train.json") && here("tokenizer.model") &&
                        (!held_out || (here("val.bin") && here("val.json")));
  if (!complete)
    throw lnfree::Error(name_of(options.out) +
                        " lacks files that its corpus.json speaks of; give --overwrite to "
                        "prepare them again.");
  return report;
}

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
  auto tokenizer = lnfree::Tokenizer::train(sample.take(), options.vocab_size);
  training.finish(count(tokenizer.vocab_size(), "piece"));
  return tokenizer;
}

/// A folder with those above it, which go again, as far as they are new and empty, unless they are kept.
class NewFolder {
 public:
  explicit NewFolder(const fs::path& path) {
    std::error_code error;
    for (fs::path above = path; !above.empty() && !fs::exists(above, error); above = above.parent_path())
      new_.push_back(above);
    fs::create_directories(path, error);
    if (!error) return;
    remove();
    throw lnfree::Error(name_of(path) + " cannot be made: " + error.message() + ".");
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
  for (const char* name : output_files)
    if (const auto status = fs::status(options.out / name, error);
        fs::exists(status) && !fs::is_regular_file(status))
      throw lnfree::Error(name_of(options.out / name) +
                          " is there and is not a file; remove it or choose another --out.");

  // Opened before the long work, so that an output folder that cannot be written says so at once.
  lnfree::AtomicFile report_file(options.out / "corpus.json");
  const auto tokenizer = make_tokenizer(options, corpus, report);
  lnfree::AtomicFile tokenizer_file(options.out / "tokenizer.model");
  tokenizer_file.write(tokenizer.model().data(), tokenizer.model().size());
  const auto shard = [&](const char* name) {
    return lnfree::TokenShardWriter(options.out / name, tokenizer.vocab_size());
  };
  Side train{"train", options.max_train_tokens, shard("train.bin")};
  Side held_out{"held-out", 0, shard("val.bin")};
  Encoder encoder(tokenizer, options.context, train, held_out);
  Progress encoding("encoding", corpus.input_bytes());
  const auto counts = corpus.visit([&](const lnfree::Document& document) {
    encoder.add(document);
    encoding.update(document.input_bytes);
  });
  encoder.flush();
  encoding.finish(count(train.shard.size(), "training token") + ", " +
                  count(held_out.shard.size(), "held-out token"));

  const std::string window = " gives one window of " + std::to_string(options.context) + " tokens";
  if (train.shard.size() == 0)
    throw lnfree::Error("none of " + count(counts.train, "training document") + window +
                        "; give a larger corpus, a shorter --context or a larger --max-train-tokens.");
  const bool wants_held_out = options.corpus.held_out > 0 || !options.corpus.held_out_inputs.empty();
  if (wants_held_out && held_out.shard.size() == 0)
    throw lnfree::Error("none of " + count(counts.held_out, "held-out document") + window +
                        "; raise --held-out (0 asks for none) or give a larger corpus.");

  const auto write_report = [&] {
    report["documents"] = counts.json();
    report["context"] = options.context;
    report["vocab_size"] = tokenizer.vocab_size();
    report["tokenizer_fingerprint"] = tokenizer.fingerprint();
    report["train"] = train.report(options.context);
    report["held_out"] = held_out.report(options.context);
    report["bytes_per_token"] = report["train"]["bytes_per_token"];
    const std::string text = report.dump(2) + "\n";
    report_file.rewind();
    report_file.write(text.data(), text.size());
    report_file.flush();
  };
  // A full disk fails here, where an older corpus is still whole. The report has its final length already.
  tokenizer_file.flush();
  train.complete(options.context, tokenizer.fingerprint());
  if (wants_held_out) held_out.complete(options.context, tokenizer.fingerprint());
  write_report();
  // corpus.json marks a complete folder: an older one goes before the first file changes, the new one comes
  // last.
  fs::remove(report_file.target());
  tokenizer_file.commit();
  train.commit(options.out / "train.bin");
  if (wants_held_out) {
    held_out.commit(options.out / "val.bin");
  } else {
    fs::remove(options.out / "val.bin");
    fs::remove(options.out / "val.json");
  }
  write_report();
  report_file.commit();
  folder.keep();
  return report;
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
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CommandLine app(
      "Prepares a corpus of Python source code: tokenizer and token shards for training and evaluation.",
      argv);
  app.add_value("--input", options.corpus.inputs, "PATH",
                "Folder of *.py files (links in it are not followed), or .jsonl file with the source in "
                "\"content\"; "
                "may be given several times")
      ->required();
  app.add_value("--held-out-input", options.corpus.held_out_inputs, "PATH",
                "Like --input, but all of it is held out; may be given several times");
  app.add_value("--out", options.out, "DIR", "Folder for the shards, the tokenizer and corpus.json")
      ->required();
  auto* vocab_size = app.add_count("--vocab-size", options.vocab_size, 1, "Tokens of the tokenizer", 1 << 24);
  app.add_count("--context", options.context, std::int64_t{2}, "Tokens in a window", std::int64_t{1} << 24);
  auto* held_out = app.add_real("--held-out", options.corpus.held_out,
                                "Share of documents to hold out; 0.03, or 0 with --held-out-input", 1)
                       ->default_str("");
  app.add_count("--seed", options.corpus.seed, std::uint64_t{0}, "Chooses the held-out documents");
  app.add_value("--tokenizer", options.tokenizer, "FILE",
                "Use this SentencePiece model instead of training one");
  app.add_count("--tokenizer-sample-bytes", options.sample_bytes, std::int64_t{1},
                "Bytes of text that the tokenizer is trained on; 2000 for each of its tokens")
      ->default_str("");
  app.add_count("--max-train-tokens", options.max_train_tokens, std::int64_t{0},
                "Stop after this many training tokens, in the order of the inputs; 0: all");
  app.add_flag("--skip-invalid", options.corpus.skip_invalid,
               "Count and leave out what cannot be read, is not UTF-8 or not JSON, instead of stopping");
  app.add_flag("--overwrite", options.overwrite, "Replace what --out holds");
  app.add_value("--json", options.json_file, "FILE", "Write the report here, too");
  if (const auto status = app.read(argc, argv)) return *status;
  if (held_out->empty() && !options.corpus.held_out_inputs.empty()) options.corpus.held_out = 0;
  if (options.sample_bytes == 0) options.sample_bytes = std::int64_t{2000} * options.vocab_size;
  if (!options.tokenizer.empty() && vocab_size->empty()) options.vocab_size = 0;
  try {
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
