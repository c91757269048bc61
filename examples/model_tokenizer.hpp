#pragma once

#include <filesystem>
#include <string>

#include <lnfree/checkpoint/folder.hpp>
#include <lnfree/core/error.hpp>
#include <lnfree/data/tokenizer.hpp>
#include <lnfree/train/shard_identity.hpp>

/// The tokenizer in `file` or, if that is empty, the one beside a model's weights, as in Hugging Face's
/// folders.
inline lnfree::Tokenizer open_tokenizer(const std::filesystem::path& file,
                                        const std::filesystem::path& checkpoint) {
  using lnfree::Tokenizer;
  if (!file.empty()) return Tokenizer::load(file);
  lnfree::require_model_folder(checkpoint);
  for (const char* name : {"tokenizer.json", "tokenizer.model"}) {
    if (lnfree::path_exists(checkpoint / name)) return Tokenizer::load(checkpoint / name);
  }
  throw lnfree::Error(
      checkpoint.string() +
      " has no tokenizer.json or tokenizer.model; give the tokenizer's file with --tokenizer");
}

/// Throws Error if the tokenizer cannot be the one of the model in `checkpoint`, whose vocabulary has
/// `vocab_size` tokens. `file` is the tokenizer's file, empty for the one in `checkpoint`.
inline void check_tokenizer(const lnfree::Tokenizer& tokenizer, const std::filesystem::path& file,
                            const std::filesystem::path& checkpoint, int vocab_size) {
  using namespace lnfree;
  const std::string name = file.empty() ? "the tokenizer in " + checkpoint.string() : file.string();
  if (tokenizer.vocab_size() > vocab_size) {
    throw Error(name + " has " + std::to_string(tokenizer.vocab_size()) + " tokens, more than the model's " +
                std::to_string(vocab_size) +
                ", so the model was trained on another corpus; give the tokenizer of that one");
  }
  if (!path_exists(checkpoint / "trainer.json")) return;
  const ShardIdentity trained = saved_identity(read_json_object(checkpoint / "trainer.json"), "train");
  const ShardIdentity given{name, "", tokenizer.fingerprint(), tokenizer.vocab_size()};
  if (tokenizers_differ(trained, given)) {
    throw Error(tokenizer_text(given) + " is not the tokenizer of " + tokenizer_text(trained) +
                ", on which " + checkpoint.string() + " was trained; give the tokenizer of that corpus");
  }
}
