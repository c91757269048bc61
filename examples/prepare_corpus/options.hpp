#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <system_error>
#include <vector>

#include <lnfree/core/error.hpp>
#include <lnfree/core/excerpt.hpp>
#include <lnfree/core/json.hpp>
#include <lnfree/data/corpus.hpp>
#include <lnfree/data/shard_set_writer.hpp>

/// What the program was asked for, and how its messages name it.
namespace prepare_corpus {

namespace fs = std::filesystem;
using json = lnfree::Json;

/// A path as a message names it.
inline std::string name_of(const fs::path& path) {
  return lnfree::excerpt(path.native());
}

/// A path for JSON: absolute, with any bytes. Throws Error if no file can have that path.
inline std::string text_of(const fs::path& path) {
  std::error_code error;
  const fs::path absolute = fs::weakly_canonical(path, error);
  if (error) throw lnfree::Error(name_of(path) + " cannot be a file or folder: " + error.message() + ".");
  return lnfree::printable(absolute.native());
}

/// The options of the command line.
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

/// "1 file", "2 files".
inline std::string count(std::int64_t number, const std::string& what) {
  return std::to_string(number) + " " + what + (number == 1 ? "" : "s");
}

/// The size of the inputs, which shows whether they have changed without reading them.
inline json extent(const lnfree::Corpus& corpus) {
  return {{"files", corpus.input_files()}, {"bytes", corpus.input_bytes()}};
}

/// An extent() as a message names it.
inline std::string words(const json& extent) {
  return count(extent.value("files", std::int64_t{0}), "file") + " of " +
         count(extent.value("bytes", std::int64_t{0}), "byte");
}

}  // namespace prepare_corpus
