// Turns source code or other text into token shards: removes duplicates, splits documents into training and
// held-out, trains a tokenizer or uses a given one, cuts every document into windows of T tokens or packs
// them one after the other, and writes train.bin, val.bin, their descriptions, the tokenizer and corpus.json
// into one folder. A split that is too large for one shard becomes train_000001.bin, train_000002.bin, ...
// A run that was killed continues where it stopped.

#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <iostream>
#include <optional>
#include <string>

#include <lnfree/core/atomic_file.hpp>
#include <lnfree/core/error.hpp>
#include <lnfree/data/corpus.hpp>
#include <lnfree/data/shard_set_writer.hpp>

#include "command_line.hpp"
#include "prepare_corpus/earlier_report.hpp"
#include "prepare_corpus/options.hpp"
#include "prepare_corpus/output_folder.hpp"
#include "prepare_corpus/preparation.hpp"

namespace {

using namespace prepare_corpus;

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

/// Throws Error if a report or text would overwrite a file of the corpus.
void check_outputs(const Options& options) {
  for (const fs::path* path : {&options.json_file, &options.held_out_text}) {
    const fs::path name = path->filename();
    const bool is_report = name == "corpus.json";
    if ((is_output(name.native()) || (is_report && path != &options.json_file)) &&
        text_of(*path) == text_of(options.out / name))
      throw lnfree::Error(name_of(*path) + " is a file of the corpus itself; give another name.");
  }
}

void run(const Options& options) {
  check_outputs(options);
  const lnfree::Corpus corpus(options.corpus);
  // Opened before the long work, too. The report in --out needs no second writer.
  std::optional<lnfree::AtomicFile> json_file;
  if (!options.json_file.empty() && text_of(options.json_file) != text_of(options.out / "corpus.json"))
    json_file.emplace(options.json_file);
  const auto earlier = earlier_report(options, corpus);
  if (earlier)
    std::cout << name_of(options.out) << " already holds this corpus, prepared with the same arguments from "
              << words(extent(corpus)) << "; nothing to do (--overwrite prepares it again)\n";
  const json report = earlier ? *earlier : Preparation(options, corpus).run();
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
    for (const char* split : {"train", "held_out"})
      std::cout << split << ": " << report[split]["documents"] << " documents, " << report[split]["windows"]
                << " windows of " << options.context << ", " << report[split]["tokens"] << " tokens\n";
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
  app.add_output("--json", options.json_file, "FILE", "Also write the report to this file");
  app.add_output("--held-out-text", options.held_out_text, "FILE",
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
  } catch (const std::exception& error) {
    std::cout.flush();
    return complain("prepare_corpus", sentence_about(error));
  }
  return 0;
}
