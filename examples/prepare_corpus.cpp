// Turns source code or other text into token shards: removes duplicates, splits documents into training and
// held-out, trains a tokenizer or uses a given one, cuts every document into windows of T tokens or packs
// them one after the other, and writes train.bin, val.bin, their descriptions, the tokenizer and corpus.json
// into one folder. A split that is too large for one shard becomes train_000001.bin, train_000002.bin, ...
// A run that was killed continues where it stopped.

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <iostream>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <lnfree/core/atomic_file.hpp>
#include <lnfree/core/error.hpp>
#include <lnfree/core/excerpt.hpp>
#include <lnfree/core/new_folder.hpp>
#include <lnfree/data/content_hash.hpp>
#include <lnfree/data/corpus.hpp>
#include <lnfree/data/document_sample.hpp>
#include <lnfree/data/shard_set_writer.hpp>
#include <lnfree/data/token_shard.hpp>
#include <lnfree/data/tokenizer.hpp>

#include "command_line.hpp"
#include "prepare_corpus/earlier_report.hpp"
#include "prepare_corpus/encoder.hpp"
#include "prepare_corpus/interrupted_run.hpp"
#include "prepare_corpus/options.hpp"
#include "prepare_corpus/output_folder.hpp"
#include "prepare_corpus/progress.hpp"
#include "prepare_corpus/split.hpp"

namespace {

using namespace prepare_corpus;

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

json prepare(const Options& options, const lnfree::Corpus& corpus) {
  json report = {
      {"arguments", options.arguments()}, {"folder", options.folder()}, {"inputs", extent(corpus)}};
  lnfree::NewFolder folder(options.out);
  auto taken = output_files(options.out);
  taken.insert(taken.end(), {"corpus.json", note_name});
  for (const std::string& name : taken)
    if (const fs::path file = options.out / name; lnfree::path_exists(file) && !lnfree::is_file(file))
      throw lnfree::Error(name_of(file) + " exists and is not a file; remove it or choose another --out.");

  // Opened before the long work, so that an output folder that cannot be written is reported at once.
  lnfree::AtomicFile report_file(options.out / "corpus.json");
  auto interrupted = find_interrupted(options, corpus);
  const json before = interrupted ? interrupted->note : json();
  const auto of = [&](const char* split) { return interrupted ? before.at(split) : json(); };
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
  Split train(options, "train", "train.bin", options.max_train_tokens, tokenizer, of("train"));
  Split held_out(options, "held-out", "val.bin", 0, tokenizer, of("held_out"));
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
  note.begin_commit();
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
  note.end_commit();
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
