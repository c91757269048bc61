#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <lnfree/core/error.hpp>
#include <lnfree/core/excerpt.hpp>
#include <lnfree/data/token_shard.hpp>

namespace lnfree {

/// Writes one split as a single shard, train.bin, or as numbered ones, train_000001.bin, train_000002.bin,
/// ..., if it has more tokens than a shard takes. ShardSet reads the numbered ones by the pattern train_*.bin
/// in the order in which they were written. All appear when commit() is called; a writer destroyed before
/// leaves nothing behind. Only one process at a time may write a split; the caller has to see to that.
class ShardSetWriter {
 public:
  /// The most tokens that a shard can have.
  static constexpr std::int64_t max_shard_tokens = std::numeric_limits<std::int32_t>::max();

  /// Starts a split of shards of `shard_tokens` tokens each, 1 <= shard_tokens <= max_shard_tokens, over a
  /// vocabulary of `vocab_size` ids. `path` is the file if one is enough. `info` is written beside each
  /// shard, with the number of its documents and tokens. With `documents`, the documents() of a killed
  /// process at its last flush(), it continues after the first `keep` tokens. Throws Error if a file cannot
  /// be written or if fewer tokens are left.
  ShardSetWriter(std::filesystem::path path, std::int64_t vocab_size, std::int64_t shard_tokens,
                 ShardInfo info, std::int64_t keep = 0, std::vector<std::int64_t> documents = {0})
      : path_(std::move(path)),
        vocab_size_(vocab_size),
        shard_tokens_(shard_tokens),
        info_(std::move(info)),
        documents_(std::move(documents)) {
    for (std::int64_t number = 1; number <= count(keep, shard_tokens); ++number) {
      const std::int64_t before = (number - 1) * shard_tokens;
      open(std::min(keep - before, shard_tokens));
    }
  }

  /// The number of shards of `tokens` tokens, at least 1.
  static std::int64_t count(std::int64_t tokens, std::int64_t shard_tokens) {
    return std::max<std::int64_t>(1, tokens / shard_tokens + (tokens % shard_tokens != 0));
  }

  /// The name of the shard `number`, from 1, if there are several: train_000001.bin for train.bin.
  static std::filesystem::path numbered(const std::filesystem::path& path, std::int64_t number) {
    char digits[32];
    std::snprintf(digits, sizeof digits, "_%06lld", static_cast<long long>(number));
    return path.parent_path() /
           std::filesystem::path(path.stem()).concat(digits).concat(path.extension().native());
  }

  /// Whether a killed process has left the first `keep` tokens of the split.
  static bool can_continue(const std::filesystem::path& path, std::int64_t vocab_size,
                           std::int64_t shard_tokens, std::int64_t keep) {
    for (std::int64_t number = 1; number <= count(keep, shard_tokens); ++number)
      if (!TokenShardWriter::can_continue(first_or_numbered(path, number), vocab_size,
                                          std::min(keep - (number - 1) * shard_tokens, shard_tokens)))
        return false;
    return true;
  }

  /// Tokens appended so far.
  std::int64_t size() const { return size_; }

  /// For each shard, the documents that begin in it.
  const std::vector<std::int64_t>& documents() const { return documents_; }

  /// Forces all appended tokens to disk, so that a later writer can continue if this process is killed.
  void flush() { shards_.back()->flush(); }

  /// Appends the tokens of a document, at least one; it may continue in the next shard. Throws Error for an
  /// id outside the vocabulary, and beyond 999,999 shards.
  void append(std::span<const std::int32_t> tokens) {
    for (bool begins = true; !tokens.empty(); begins = false) {
      if (shards_.back()->size() == shard_tokens_) {
        documents_.push_back(0);
        open(0);
      }
      const auto room = static_cast<std::size_t>(shard_tokens_ - shards_.back()->size());
      const auto part = tokens.first(std::min(room, tokens.size()));
      shards_.back()->append(part);
      size_ += static_cast<std::int64_t>(part.size());
      if (begins) ++documents_.back();
      tokens = tokens.subspan(part.size());
    }
  }

  /// Completes the last shard and forces it to disk, so that little can go wrong in commit(). Nothing may be
  /// appended afterwards.
  void complete() { complete_last(); }

  /// Makes the completed files appear under their names.
  void commit() {
    for (const auto& shard : shards_) shard->commit();
  }

  /// The files, in order.
  std::vector<std::filesystem::path> files() const {
    if (shards_.size() == 1) return {path_};
    std::vector<std::filesystem::path> files;
    for (std::size_t i = 1; i <= shards_.size(); ++i)
      files.push_back(numbered(path_, static_cast<std::int64_t>(i)));
    return files;
  }

 private:
  // The first shard starts under the name of a single one, and is renamed when there is a second.
  static std::filesystem::path first_or_numbered(const std::filesystem::path& path, std::int64_t number) {
    return number == 1 ? path : numbered(path, number);
  }

  // Opens the next shard, of which the first `keep` tokens are already written. The previous one is completed
  // and closed, since there may be more shards than a process may have open files.
  void open(std::int64_t keep) {
    if (shards_.size() == 999'999)
      throw Error(excerpt(path_.native()) + " would take more than 999,999 shards of " +
                  std::to_string(shard_tokens_) + " tokens; give them more tokens.");
    if (shards_.size() == 1) shards_.back()->rename(numbered(path_, 1));
    if (!shards_.empty()) {
      complete_last();
      shards_.back()->close();
    }
    const auto number = static_cast<std::int64_t>(shards_.size()) + 1;
    shards_.push_back(
        std::make_unique<TokenShardWriter>(first_or_numbered(path_, number), vocab_size_, keep));
    size_ += keep;
  }

  void complete_last() {
    ShardInfo info = info_;
    info.documents = documents_.at(shards_.size() - 1);
    shards_.back()->complete(std::move(info));
  }

  std::filesystem::path path_;
  std::int64_t vocab_size_;
  std::int64_t shard_tokens_;
  ShardInfo info_;
  std::vector<std::int64_t> documents_;
  std::vector<std::unique_ptr<TokenShardWriter>> shards_;
  std::int64_t size_ = 0;
};

}  // namespace lnfree
