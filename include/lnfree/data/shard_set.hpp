#pragma once

#include <glob.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <lnfree/core/error.hpp>
#include <lnfree/core/excerpt.hpp>
#include <lnfree/core/fingerprint.hpp>
#include <lnfree/data/token_shard.hpp>

namespace lnfree {

/// The files that match paths and patterns, each once, ordered by name and, for equal names, by path. A
/// pattern has *, ? or [...]; an existing file of exactly that name takes precedence. Throws Error for a
/// pattern that no file matches.
inline std::vector<std::filesystem::path> matching_files(std::span<const std::filesystem::path> patterns) {
  std::vector<std::filesystem::path> files;
  for (const auto& pattern : patterns) {
    std::error_code error;
    if (pattern.native().find_first_of("*?[") == std::string::npos ||
        std::filesystem::exists(pattern, error)) {
      files.push_back(pattern);
      continue;
    }
    ::glob_t found{};
    const int status = ::glob(pattern.c_str(), GLOB_NOSORT, nullptr, &found);
    for (std::size_t i = 0; status == 0 && i < found.gl_pathc; ++i) files.emplace_back(found.gl_pathv[i]);
    ::globfree(&found);
    if (status != 0)
      throw Error("no file matches the pattern " + excerpt(pattern.native()) +
                  "; token shards (.bin) were expected.");
  }
  const auto key = [](const std::filesystem::path& path) {
    return std::pair(path.filename().native(), path.lexically_normal().native());
  };
  std::sort(files.begin(), files.end(), [&](const auto& a, const auto& b) { return key(a) < key(b); });
  files.erase(
      std::unique(files.begin(), files.end(), [&](const auto& a, const auto& b) { return key(a) == key(b); }),
      files.end());
  return files;
}

/// An ordered set of one or more token shards: the data of one split.
class ShardSet {
 public:
  /// A single shard.
  ShardSet(TokenShard shard) { shards_.push_back(std::move(shard)); }

  /// Throws Error if there is none.
  explicit ShardSet(std::vector<TokenShard> shards) : shards_(std::move(shards)) {
    if (shards_.empty()) throw Error("no token shard was given.");
  }

  /// Maps the files that match paths and patterns, in the order of matching_files(). `vocab_size` is for
  /// shards without a header, 0 to read it from a file beside them. Throws Error if TokenShard::open() does.
  static ShardSet open(std::span<const std::filesystem::path> patterns, std::int64_t vocab_size = 0) {
    std::vector<TokenShard> shards;
    for (const auto& file : matching_files(patterns)) shards.push_back(TokenShard::open(file, vocab_size));
    return ShardSet(std::move(shards));
  }

  /// The shards in order.
  const std::vector<TokenShard>& shards() const { return shards_; }

  /// "data/train_0.bin", "data/train_0.bin and 7 more": for messages.
  std::string name() const {
    const std::string first = printable(shards_.front().path().native());
    return shards_.size() == 1 ? first : first + " and " + std::to_string(shards_.size() - 1) + " more";
  }

  /// Equal for shards with the same tokens in the same order, wherever the files are; for a single shard it
  /// is that shard's. Reads all of them.
  std::string fingerprint() const {
    if (shards_.size() == 1) return shards_.front().fingerprint();
    std::string all;
    for (const auto& shard : shards_) all += shard.fingerprint();
    return lnfree::fingerprint(all);
  }

 private:
  std::vector<TokenShard> shards_;
};

}  // namespace lnfree
