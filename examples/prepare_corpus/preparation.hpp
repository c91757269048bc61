#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <iostream>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <lnfree/core/atomic_file.hpp>
#include <lnfree/core/error.hpp>
#include <lnfree/core/new_folder.hpp>
#include <lnfree/data/content_hash.hpp>
#include <lnfree/data/corpus.hpp>
#include <lnfree/data/token_shard.hpp>
#include <lnfree/data/tokenizer.hpp>

#include "encoder.hpp"
#include "interrupted_run.hpp"
#include "options.hpp"
#include "output_folder.hpp"
#include "progress.hpp"
#include "split.hpp"
#include "tokenizer.hpp"

namespace prepare_corpus {

/// Prepares a corpus: everything is written under temporary names first, and gets its names at the end.
/// Continues a run with the same arguments and inputs that was killed.
class Preparation {
 public:
  /// Opens all outputs before the long work, so that a folder that cannot be written is reported at once, and
  /// loads or trains the tokenizer.
  Preparation(const Options& options, const lnfree::Corpus& corpus)
      : options_(options),
        corpus_(corpus),
        report_(
            {{"arguments", options.arguments()}, {"folder", options.folder()}, {"inputs", extent(corpus)}}),
        folder_(options.out),
        report_file_(report_path(options)),
        interrupted_(find_interrupted(options, corpus)),
        before_(interrupted_ ? interrupted_->note : json()),
        note_(options, interrupted_.has_value()),
        tokenizer_(interrupted_ ? std::move(interrupted_->tokenizer)
                                : make_tokenizer(options, corpus, report_)),
        end_of_text_(end_of_text(options, tokenizer_)),
        tokenizer_file_(options.out / tokenizer_.file_name()),
        train_(options, "train", "train.bin", options.max_train_tokens, tokenizer_, split_before("train")),
        held_out_(options, "held-out", "val.bin", 0, tokenizer_, split_before("held_out")) {
    if (before_.contains(sample_bytes)) report_[sample_bytes] = before_[sample_bytes];
    tokenizer_file_.write(tokenizer_.model().data(), tokenizer_.model().size());
    tokenizer_file_.flush();
    remove_temporaries(options.out, shard_files(true));
  }

  /// Does the work, and returns the report.
  json run() {
    const auto counts = encode();
    require_windows(counts);
    commit(counts);
    return report_;
  }

 private:
  static constexpr const char* sample_bytes = "tokenizer_sample_bytes";

  /// The path of the report. Throws Error if a folder has the name of a file that will be written.
  static fs::path report_path(const Options& options) {
    auto names = output_files(options.out);
    names.insert(names.end(), {"corpus.json", note_name});
    for (const std::string& name : names)
      if (const fs::path file = options.out / name; lnfree::path_exists(file) && !lnfree::is_file(file))
        throw lnfree::Error(name_of(file) + " exists and is not a file; remove it or choose another --out.");
    return options.out / "corpus.json";
  }

  /// What the interrupted run has written of a split; null for a new run.
  json split_before(const char* split) const { return interrupted_ ? before_.at(split) : json(); }

  /// The names of all shards and their descriptions.
  std::vector<std::string> shard_files(bool with_held_out) const {
    auto names = train_.files();
    if (with_held_out)
      for (auto& name : held_out_.files()) names.push_back(std::move(name));
    for (std::size_t i = 0, shards = names.size(); i < shards; ++i)
      names.push_back(lnfree::shard_info_path(names[i]).string());
    return names;
  }

  /// Encodes all documents. Those that an interrupted run encoded are read again, to find duplicates, and
  /// verified by a hash of all their hashes.
  lnfree::CorpusCounts encode() {
    const std::int64_t encoded_before = interrupted_ ? before_.at("visited").get<std::int64_t>() : 0;
    if (interrupted_)
      std::cout << "continuing an interrupted run: " << count(encoded_before, "document") << " encoded\n"
                << std::flush;
    Encoder encoder(tokenizer_, end_of_text_, train_, held_out_);
    Progress progress("encoding", corpus_.input_bytes());
    std::int64_t visited = 0;
    lnfree::ContentHash chain;
    const auto chain_text = [&] { return std::to_string(chain.high) + "," + std::to_string(chain.low); };
    const auto counts = corpus_.visit([&](const lnfree::Document& document) {
      const lnfree::ContentHash pair[] = {chain, document.hash};
      chain = lnfree::ContentHash::of({reinterpret_cast<const char*>(pair), sizeof pair});
      if (++visited > encoded_before) {
        encoder.add(document);
        if (encoder.is_empty() && note_.is_due()) write_note(visited, chain_text());
      } else if (visited == encoded_before) {
        require_unchanged(before_.at("chain") == chain_text());
        progress.begin_at(document.input_bytes);
      }
      progress.update(document.input_bytes);
    });
    require_unchanged(visited >= encoded_before);
    encoder.flush();
    progress.finish(count(train_.size(), "training token") + ", " +
                    count(held_out_.size(), "held-out token"));
    return counts;
  }

  void require_unchanged(bool same) const {
    if (!same)
      throw lnfree::Error("the inputs are not those of the run that was interrupted in " +
                          name_of(options_.out) + "; start it again to prepare them from the beginning.");
  }

  /// Notes how far this run is, for one that continues it.
  void write_note(std::int64_t visited, const std::string& chain) {
    json text = {{"arguments", options_.arguments()},
                 {"inputs", extent(corpus_)},
                 {"tokenizer_fingerprint", tokenizer_.fingerprint()},
                 {"visited", visited},
                 {"chain", chain},
                 {"train", train_.note()},
                 {"held_out", held_out_.note()}};
    if (report_.contains(sample_bytes)) text[sample_bytes] = report_[sample_bytes];
    note_.write(text);
  }

  bool wants_held_out() const {
    return options_.corpus.held_out > 0 || !options_.corpus.held_out_inputs.empty();
  }

  /// Throws Error if a split has no window.
  void require_windows(const lnfree::CorpusCounts& counts) const {
    const std::int64_t least = options_.packs() ? options_.context : 1;
    const std::string window = " gives one window of " + std::to_string(options_.context) + " tokens";
    if (train_.size() < least)
      throw lnfree::Error("none of " + count(counts.train, "training document") + window +
                          "; give a larger corpus, a shorter --context or a larger --max-train-tokens.");
    if (wants_held_out() && held_out_.size() < least)
      throw lnfree::Error("none of " + count(counts.held_out, "held-out document") + window +
                          "; raise --held-out (0 asks for none) or give a larger corpus.");
  }

  void write_report(const lnfree::CorpusCounts& counts) {
    report_["documents"] = counts.json();
    report_["context"] = options_.context;
    report_["chunking"] = options_.chunking;
    if (end_of_text_) report_["end_of_text"] = *end_of_text_;
    report_["vocab_size"] = tokenizer_.vocab_size();
    report_["tokenizer"] = tokenizer_.file_name();
    report_["tokenizer_fingerprint"] = tokenizer_.fingerprint();
    report_["train"] = train_.report();
    report_["held_out"] = held_out_.report();
    report_["bytes_per_token"] = report_["train"]["bytes_per_token"];
    const std::string text = report_.dump(2) + "\n";
    report_file_.rewind();
    report_file_.write(text.data(), text.size());
    report_file_.flush();
  }

  /// Gives all files their names. corpus.json marks a complete folder: an old one is removed before the first
  /// file changes, and the new one is written last.
  void commit(const lnfree::CorpusCounts& counts) {
    // A full disk fails here, while an older corpus is still intact. The report already has its final length.
    train_.complete();
    if (wants_held_out()) held_out_.complete();
    write_report(counts);
    note_.begin_commit();
    fs::remove(report_file_.target());
    auto names = shard_files(wants_held_out());
    names.push_back(tokenizer_.file_name());
    for (const std::string& name : output_files(options_.out))
      if (std::find(names.begin(), names.end(), name) == names.end()) fs::remove(options_.out / name);
    tokenizer_file_.commit();
    train_.commit();
    if (wants_held_out()) held_out_.commit();
    write_report(counts);
    report_file_.commit();
    note_.end_commit();
    folder_.keep();
  }

  const Options& options_;
  const lnfree::Corpus& corpus_;
  json report_;
  lnfree::NewFolder folder_;
  lnfree::AtomicFile report_file_;
  std::optional<Interrupted> interrupted_;
  json before_;  // the note of the interrupted run
  Note note_;
  lnfree::Tokenizer tokenizer_;
  std::optional<std::int32_t> end_of_text_;
  lnfree::AtomicFile tokenizer_file_;
  Split train_, held_out_;
};

}  // namespace prepare_corpus
