#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include <lnfree/core/error.hpp>
#include <lnfree/core/excerpt.hpp>
#include <lnfree/core/files.hpp>
#include <lnfree/core/fingerprint.hpp>
#include <lnfree/core/json.hpp>
#include <lnfree/data/shard_set.hpp>
#include <lnfree/data/token_shard.hpp>

namespace lnfree {

/// Which tokens the shards of a split hold and which tokenizer made them, wherever the files are. A
/// checkpoint stores it, so that a run cannot be resumed with other data. Unknown values are empty or 0, and
/// match anything.
struct ShardIdentity {
  /// Path of the file.
  std::string path;
  std::string tokens;           ///< ShardSet::fingerprint().
  std::string tokenizer;        ///< Fingerprint of the tokenizer's model; unknown for llm.c's shards.
  std::int64_t vocab_size = 0;  ///< Vocabulary size of the tokenizer.

  bool operator==(const ShardIdentity&) const = default;
};

/// The identity of a shard without its token fingerprint, from the description beside it.
inline ShardIdentity tokenizer_of_shard(const TokenShard& shard) {
  ShardIdentity identity;
  identity.path = printable(shard.path().native());
  identity.vocab_size = shard.vocab_size();
  const auto info = read_shard_info(shard.path());
  if (!info) return identity;
  if (identity.vocab_size == 0) identity.vocab_size = info->vocab_size;
  identity.tokenizer = info->tokenizer_fingerprint;
  if (identity.tokenizer.empty() && !info->tokenizer.empty()) {
    // Earlier descriptions have no fingerprint, but the tokenizer's model is beside them.
    const auto path = shard.path().parent_path() / std::filesystem::path(info->tokenizer).filename();
    if (is_file(path)) identity.tokenizer = fingerprint(read_text(path, "a tokenizer"));
  }
  return identity;
}

/// Its form in a checkpoint's trainer.json.
inline Json to_json(const ShardIdentity& identity) {
  return {{"path", identity.path},
          {"tokens", identity.tokens},
          {"tokenizer", identity.tokenizer},
          {"vocab_size", identity.vocab_size}};
}

/// One of the two identities ("train" or "validation") that a checkpoint's trainer.json may hold; earlier
/// versions wrote none. Throws Error if it is malformed.
inline ShardIdentity saved_identity(const Json& state, const char* which) {
  try {
    const Json data = state.value("data", Json::object());
    const Json saved = data.value(which, Json::object());
    return {saved.value("path", ""), saved.value("tokens", ""), saved.value("tokenizer", ""),
            saved.value("vocab_size", std::int64_t{0})};
  } catch (const Json::exception&) {
    throw Error(std::string("the checkpoint's trainer.json is damaged: its data.") + which +
                " does not describe a token shard");
  }
}

/// Whether two shards are known to be of different tokenizers.
inline bool tokenizers_differ(const ShardIdentity& a, const ShardIdentity& b) {
  if (!a.tokenizer.empty() && !b.tokenizer.empty()) return a.tokenizer != b.tokenizer;
  return a.vocab_size > 0 && b.vocab_size > 0 && a.vocab_size != b.vocab_size;
}

/// Whether two shards are known to hold different tokens.
inline bool tokens_differ(const ShardIdentity& a, const ShardIdentity& b) {
  return !a.tokens.empty() && !b.tokens.empty() && a.tokens != b.tokens;
}

/// "corpus/train.bin (tokenizer 0123456789abcdef, 4096 tokens)", for messages.
inline std::string tokenizer_text(const ShardIdentity& identity) {
  return identity.path + " (" +
         (identity.tokenizer.empty() ? "a tokenizer" : "tokenizer " + identity.tokenizer) + " of " +
         std::to_string(identity.vocab_size) + " tokens)";
}

/// The identity of shards without their token fingerprints, from the descriptions beside them. Throws Error
/// if they are known to be of different tokenizers.
inline ShardIdentity tokenizer_of(const ShardSet& set) {
  ShardIdentity identity = tokenizer_of_shard(set.shards().front());
  for (const TokenShard& shard : set.shards()) {
    const ShardIdentity other = tokenizer_of_shard(shard);
    if (tokenizers_differ(identity, other)) {
      throw Error(tokenizer_text(identity) + " and " + tokenizer_text(other) +
                  " are of different tokenizers: the same ids mean other text; give shards of one");
    }
    if (identity.tokenizer.empty()) identity.tokenizer = other.tokenizer;
    if (identity.vocab_size == 0) identity.vocab_size = other.vocab_size;
  }
  identity.path = set.name();
  return identity;
}

/// The identity of shards. Reads all of them.
inline ShardIdentity identity_of(const ShardSet& set) {
  ShardIdentity identity = tokenizer_of(set);
  identity.tokens = set.fingerprint();
  return identity;
}

/// Throws Error if the shards `given` to resume the run in `checkpoint` are known to differ from the `saved`
/// ones, on which the run was `purpose`: "trained" or "evaluated".
inline void check_same_shards(const std::filesystem::path& checkpoint, const ShardIdentity& saved,
                              const ShardIdentity& given, const std::string& purpose) {
  if (tokenizers_differ(saved, given)) {
    throw Error(checkpoint.string() + " was " + purpose + " on " + tokenizer_text(saved) + ", " +
                tokenizer_text(given) + " is of another tokenizer; resume with the same shard");
  }
  if (tokens_differ(saved, given)) {
    throw Error(checkpoint.string() + " was " + purpose + " on " + saved.path + " (fingerprint " +
                saved.tokens + "), " + given.path + " holds other tokens (fingerprint " + given.tokens +
                "); resume with the same shard");
  }
}

/// Throws Error if a shard was made with another tokenizer than the one that a model was trained with.
inline void check_same_tokenizer(const ShardIdentity& trained, const ShardIdentity& given) {
  if (!tokenizers_differ(trained, given)) return;
  throw Error(tokenizer_text(given) + " is of another tokenizer than the training shard " +
              tokenizer_text(trained) + ": the same ids mean other text; give one of the same tokenizer");
}

}  // namespace lnfree
