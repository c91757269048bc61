#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>
#include <string>

#include <lnfree/checkpoint/architecture.hpp>
#include <lnfree/checkpoint/folder.hpp>
#include <lnfree/core/atomic_file.hpp>
#include <lnfree/core/error.hpp>
#include <lnfree/core/files.hpp>
#include <lnfree/core/fingerprint.hpp>
#include <lnfree/train/shard_identity.hpp>

#include "options.hpp"

namespace convert {

using namespace lnfree;

/// The tokenizer's file that goes with a model.
struct TokenizerFile {
  std::filesystem::path path;
  bool is_json;

  const char* name() const { return is_json ? "tokenizer.json" : "tokenizer.model"; }
};

/// The tokenizer given by --tokenizer, or else the one beside the weights, if any. Throws Error if
/// --tokenizer cannot be the model's tokenizer.
inline std::optional<TokenizerFile> find_tokenizer(const Options& options, const Architecture& architecture) {
  const std::filesystem::path& path = options.tokenizer;
  if (path.empty()) {
    for (const bool is_json : {true, false}) {
      TokenizerFile beside{model_folder(options.from), is_json};
      beside.path /= beside.name();
      if (is_file(beside.path)) return beside;
    }
    return std::nullopt;
  }
  const std::string content = read_text(path, "a tokenizer.json or tokenizer.model");
  const auto start = content.find_first_not_of(" \t\r\n");
  const bool is_json = path.extension() == ".json" || (start != content.npos && content[start] == '{');
  if (is_json) {
    const Json json = parse_json(content);
    const Json model = json.is_object() ? json.value("model", Json()) : Json();
    const Json tokens = model.is_object() ? model.value("vocab", Json()) : Json();
    if (!tokens.is_object() || tokens.empty()) throw Error(path.string() + " is not a tokenizer.json");
    if (tokens.size() > static_cast<std::size_t>(architecture.sizes.vocab_size)) {
      throw Error(path.string() + " has " + std::to_string(tokens.size()) +
                  " tokens, more than the model's " + std::to_string(architecture.sizes.vocab_size) +
                  "; give the tokenizer of the model's corpus");
    }
  }
  // SentencePiece's file begins with a piece, and that with its text, each behind a tag and a length.
  if (!is_json && !(content.size() > 2 && content[0] == '\n' && content[2] == '\n'))
    throw Error(path.string() + " is neither a tokenizer.json nor a tokenizer.model");
  const std::filesystem::path trainer = model_folder(options.from) / "trainer.json";
  if (path_exists(trainer)) {
    const ShardIdentity trained = saved_identity(read_json_object(trainer), "train");
    if (tokenizers_differ(trained, {path.string(), "", fingerprint(content), 0}))
      throw Error(path.string() + " is not the tokenizer of " + tokenizer_text(trained) + ", on which " +
                  options.from.string() + " was trained; give the tokenizer of that corpus");
  }
  return TokenizerFile{path, is_json};
}

/// Copies the tokenizer, with the files that transformers keeps beside it. For transformers, writes a
/// tokenizer_config.json if there is none. Returns a remark for the program's output.
inline std::string write_tokenizer(const std::filesystem::path& folder, const TokenizerFile& tokenizer,
                                   bool for_transformers, int context) {
  const auto copy = [&](const std::filesystem::path& from, const char* name) {
    write_file(folder / name, read_text(from, name));
  };
  copy(tokenizer.path, tokenizer.name());
  for (const char* name : {"tokenizer_config.json", "special_tokens_map.json"}) {
    const auto beside = tokenizer.path.parent_path() / name;
    if (is_file(beside)) copy(beside, name);
  }
  const std::string copied = std::string("; ") + tokenizer.name() + " was copied";
  if (!for_transformers || path_exists(folder / "tokenizer_config.json")) return copied;
  Json config{{"model_max_length", context}, {"clean_up_tokenization_spaces", false}};
  if (tokenizer.is_json) {
    config["tokenizer_class"] = "PreTrainedTokenizerFast";
  } else {
    config.update({{"tokenizer_class", "LlamaTokenizer"},
                   {"legacy", false},
                   {"add_bos_token", false},
                   {"add_eos_token", false},
                   {"add_prefix_space", false},
                   {"bos_token", nullptr},
                   {"eos_token", nullptr},
                   {"unk_token", "<unk>"}});
  }
  write_file(folder / "tokenizer_config.json", config.dump(2) + "\n");
  return copied + (tokenizer.is_json
                       ? ""
                       : ", which transformers 5 opens as a LlamaTokenizer, with the same tokens except in "
                         "texts that contain <unk> or U+2581");
}

}  // namespace convert
