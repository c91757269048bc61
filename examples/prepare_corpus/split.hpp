#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include <lnfree/data/shard_set.hpp>
#include <lnfree/data/shard_set_writer.hpp>
#include <lnfree/data/token_shard.hpp>
#include <lnfree/data/tokenizer.hpp>

#include "options.hpp"

namespace prepare_corpus {

/// Writes one split of the corpus to shards.
class Split {
 public:
  /// `limit` is the maximum number of tokens to write, 0 for all. `before` is the note() of an interrupted
  /// run that this one continues, null for a new one.
  Split(const Options& options, const char* split, const char* file, std::int64_t limit,
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

}  // namespace prepare_corpus
