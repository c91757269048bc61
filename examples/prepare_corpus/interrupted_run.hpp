#pragma once

#include <chrono>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <iterator>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <lnfree/core/atomic_file.hpp>
#include <lnfree/data/corpus.hpp>
#include <lnfree/data/shard_set_writer.hpp>
#include <lnfree/data/tokenizer.hpp>

#include "options.hpp"

namespace prepare_corpus {

/// The note that a run keeps in its folder while it encodes, from which another run continues if it is
/// killed.
inline constexpr const char* note_name = ".prepare_corpus.json";

/// The state of a run that was killed.
struct Interrupted {
  json note;
  lnfree::Tokenizer tokenizer;
};

/// What a killed run with the same arguments and inputs left in the folder, if it is complete.
inline std::optional<Interrupted> find_interrupted(const Options& options, const lnfree::Corpus& corpus) {
  try {
    const json note = lnfree::read_json_object(options.out / note_name);
    // A given tokenizer is compared below, by its content.
    json arguments = options.arguments(), recorded = note.at("arguments");
    if (arguments.contains("tokenizer") && recorded.contains("tokenizer"))
      recorded["tokenizer"] = arguments["tokenizer"];
    if (recorded != arguments || note.at("inputs") != extent(corpus)) return std::nullopt;
    auto tokenizer = lnfree::Tokenizer::load(
        options.tokenizer.empty() ? lnfree::AtomicFile::temporary_of(options.out / "tokenizer.model")
                                  : options.tokenizer);
    for (const auto& [split, name] : {std::pair("train", "train.bin"), std::pair("held_out", "val.bin")}) {
      const std::int64_t tokens = note.at(split).at("size");
      const std::int64_t shards = lnfree::ShardSetWriter::count(tokens, options.shard_tokens);
      if (std::ssize(note.at(split).at("documents").get<std::vector<std::int64_t>>()) != shards ||
          !lnfree::ShardSetWriter::can_continue(options.out / name, tokenizer.vocab_size(),
                                                options.shard_tokens, tokens))
        return std::nullopt;
    }
    if (note.at("tokenizer_fingerprint") != tokenizer.fingerprint()) return std::nullopt;
    return Interrupted{note, std::move(tokenizer)};
  } catch (const std::exception&) {  // none or incomplete: start from the beginning
    return std::nullopt;
  }
}

/// The note of the current run, which is removed unless the run is killed or fails while its files get their
/// names.
class Note {
 public:
  /// `exists`: an interrupted run has left one, which this run continues.
  Note(const Options& options, bool exists) : path_(options.out / note_name), written_(exists) {}
  Note(const Note&) = delete;
  ~Note() {
    std::error_code error;
    if (written_ && !needed_) fs::remove(path_, error);
  }

  /// Whether it is time to write the note again.
  bool is_due() const { return std::chrono::steady_clock::now() >= next_; }

  void write(const json& note) {
    lnfree::write_file(path_, note.dump() + "\n");
    written_ = true;
    next_ = std::chrono::steady_clock::now() + std::chrono::seconds(5);
  }

  /// To be called before the first file gets its name: the note now stays whatever happens, so that a later
  /// run knows whose the files are.
  void begin_commit() {
    if (!written_) write({{"incomplete", true}});
    needed_ = true;
  }

  /// To be called when all files have their names.
  void end_commit() { needed_ = false; }

 private:
  fs::path path_;
  bool written_, needed_ = false;
  std::chrono::steady_clock::time_point next_{};
};

}  // namespace prepare_corpus
