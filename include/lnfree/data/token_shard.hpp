#pragma once

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <lnfree/core/atomic_file.hpp>
#include <lnfree/core/error.hpp>
#include <lnfree/core/excerpt.hpp>
#include <lnfree/core/files.hpp>
#include <lnfree/core/fingerprint.hpp>
#include <lnfree/core/json.hpp>

namespace lnfree {

static_assert(std::endian::native == std::endian::little,
              "token shards are little-endian and mapped as they are");

/// The header of llm.c's token shards: 256 x int32, of which [0] is the magic, [1] the version, [2] the token
/// count.
using ShardHeader = std::array<std::int32_t, 256>;

/// The header of a shard of `tokens` ids of `token_bytes` bytes each (2: magic 20240520, version 1; 4: magic
/// 20240801, version 7). Throws Error if the count does not fit the format's int32.
inline ShardHeader make_shard_header(std::int64_t tokens, int token_bytes) {
  if (tokens < 0 || tokens > std::numeric_limits<std::int32_t>::max())
    throw Error("a token shard holds at most " + std::to_string(std::numeric_limits<std::int32_t>::max()) +
                " tokens (its header counts in int32), " + std::to_string(tokens) +
                " were given; write several shards.");
  ShardHeader header{};
  header[0] = token_bytes == 2 ? 20240520 : 20240801;
  header[1] = token_bytes == 2 ? 1 : 7;
  header[2] = static_cast<std::int32_t>(tokens);
  return header;
}

/// The content of the small JSON file beside a shard; missing values are 0 or empty.
struct ShardInfo {
  std::int64_t vocab_size = 0;  ///< Size of the vocabulary.
  std::int64_t context = 0;     ///< Tokens of the windows that documents were cut into; 0: unknown.
  std::int64_t documents = 0;   ///< Documents that gave at least one window.
  std::int64_t tokens = 0;      ///< Tokens in the shard.
  std::string tokenizer = {};   ///< File name of the tokenizer, in the same folder.
  /// fingerprint() of that file, equal for shards of the same tokenizer.
  std::string tokenizer_fingerprint = {};
  std::string split = {};  ///< "train" or "held-out".
};

/// The file that describes a shard: train.json beside train.bin.
inline std::filesystem::path shard_info_path(std::filesystem::path shard) {
  return shard.replace_extension(".json");
}

/// Reads the description beside a shard, or nothing if there is none. Throws Error if it is malformed.
inline std::optional<ShardInfo> read_shard_info(const std::filesystem::path& shard) {
  const auto path = shard_info_path(shard);
  if (!path_exists(path)) return std::nullopt;
  const auto fail = [&](const std::string& why) {
    return Error(excerpt(path.native()) + " should describe " + excerpt(shard.filename().native()) +
                 " (a JSON object with vocab_size, context, tokens), but cannot be read: " + excerpt(why) +
                 "; fix or remove it.");
  };
  const Json json = parse_json(read_text(path, "a JSON object"));
  if (!json.is_object()) throw fail("it holds no JSON object");
  try {
    ShardInfo info;
    info.vocab_size = json.value("vocab_size", info.vocab_size);
    info.context = json.value("context", info.context);
    info.documents = json.value("documents", info.documents);
    info.tokens = json.value("tokens", info.tokens);
    info.tokenizer = json.value("tokenizer", info.tokenizer);
    info.tokenizer_fingerprint = json.value("tokenizer_fingerprint", info.tokenizer_fingerprint);
    info.split = json.value("split", info.split);
    return info;
  } catch (const Json::exception& error) {
    throw fail(error.what());
  }
}

/// The size of the vocabulary of a shard without a header, from its description or from a meta.json in its
/// folder, as nanoGPT's data sets may have; 0 if there is neither. Throws Error if it is malformed.
inline std::int64_t read_vocab_size(const std::filesystem::path& shard) {
  if (const auto info = read_shard_info(shard); info && info->vocab_size > 0) return info->vocab_size;
  auto path = shard;
  path.replace_filename("meta.json");
  if (!path_exists(path)) return 0;
  const Json json = parse_json(read_text(path, "a JSON object"));
  const Json size = json.is_object() ? json.value("vocab_size", Json()) : Json();
  if (!size.is_number_unsigned() || size == 0 || size > std::uint64_t{1} << 24)
    throw Error(excerpt(path.native()) + " should give the vocabulary size of " +
                excerpt(shard.filename().native()) +
                " as {\"vocab_size\": N}, but does not; fix or remove it, or give --vocab-size.");
  return size.get<std::int64_t>();
}

/// A read-only memory map of a token shard (.bin): uint16 or uint32 token ids after a ShardHeader, as in
/// llm.c, or only uint16 ids, as in nanoGPT. Data is read on access. Positions and sizes are int64, so shards
/// may exceed 2 GiB.
class TokenShard {
 public:
  /// Maps a shard. A file without a header is accepted if its vocabulary size is known: from `vocab_size` or,
  /// if that is 0, from read_vocab_size(). Throws Error if the file is missing, empty, not a token shard,
  /// truncated, or has extra bytes at its end.
  static TokenShard open(const std::filesystem::path& path, std::int64_t vocab_size = 0) {
    return TokenShard(path, vocab_size);
  }

  TokenShard(TokenShard&& other) noexcept
      : path_(std::move(other.path_)),
        map_(std::exchange(other.map_, nullptr)),
        map_bytes_(std::exchange(other.map_bytes_, 0)),
        header_bytes_(other.header_bytes_),
        size_(std::exchange(other.size_, 0)),
        token_bytes_(other.token_bytes_),
        vocab_size_(other.vocab_size_) {}

  TokenShard& operator=(TokenShard&& other) noexcept {
    std::swap(path_, other.path_);
    std::swap(map_, other.map_);
    std::swap(map_bytes_, other.map_bytes_);
    std::swap(header_bytes_, other.header_bytes_);
    std::swap(size_, other.size_);
    std::swap(token_bytes_, other.token_bytes_);
    std::swap(vocab_size_, other.vocab_size_);
    return *this;
  }

  ~TokenShard() {
    if (map_ != nullptr) ::munmap(map_, map_bytes_);
  }

  /// The file.
  const std::filesystem::path& path() const { return path_; }

  /// Number of tokens.
  std::int64_t size() const { return size_; }

  /// The size of the vocabulary that a shard without a header was read with, 0 for one with a header.
  std::int64_t vocab_size() const { return vocab_size_; }

  /// Token `i`, 0 <= i < size().
  std::int32_t operator[](std::int64_t i) const {
    return token_bytes_ == 2 ? static_cast<std::int32_t>(tokens<std::uint16_t>()[i])
                             : static_cast<std::int32_t>(tokens<std::uint32_t>()[i]);
  }

  /// Writes tokens [begin, begin + count) to `out`; the range must lie within the shard.
  void copy(std::int64_t begin, std::int64_t count, std::int32_t* out) const {
    if (token_bytes_ == 2)
      std::copy_n(tokens<std::uint16_t>() + begin, count, out);
    else
      std::copy_n(tokens<std::uint32_t>() + begin, count, out);
  }

  /// fingerprint() of the whole file, equal for shards with the same tokens, wherever they are. Reads the
  /// whole shard.
  std::string fingerprint() const {
    Fingerprint fingerprint;
    // Pages that have been read are released; a part is whole pages.
    constexpr std::size_t part = 1 << 26;
    for (std::size_t at = 0; at < map_bytes_; at += part) {
      char* const begin = static_cast<char*>(map_) + at;
      const std::size_t size = std::min(part, map_bytes_ - at);
      fingerprint.add({begin, size});
      ::madvise(begin, size, MADV_DONTNEED);
    }
    return fingerprint.text();
  }

  /// The largest token id, -1 if there is none; reads the whole shard. Ids of 2^31 and more give 2^31 - 1.
  std::int32_t max_token() const {
    if (size_ == 0) return -1;
    return token_bytes_ == 2 ? largest<std::uint16_t>() : largest<std::uint32_t>();
  }

 private:
  TokenShard(const std::filesystem::path& path, std::int64_t vocab_size) : path_(path) {
    const FileReader file(path, "a token shard (.bin)");
    if (file.size() == 0) fail("is empty; a token shard (.bin) was expected");
    map_bytes_ = static_cast<std::size_t>(file.size());
    map_ = ::mmap(nullptr, map_bytes_, PROT_READ, MAP_SHARED, file.descriptor(), 0);
    if (map_ == MAP_FAILED) {
      map_ = nullptr;
      fail(std::string("cannot be mapped into memory: ") + std::strerror(errno));
    }
    try {
      read_header(vocab_size);
    } catch (...) {
      ::munmap(map_, map_bytes_);
      throw;
    }
  }

  void read_header(std::int64_t vocab_size) {
    ShardHeader header{};
    std::memcpy(header.data(), map_, std::min(map_bytes_, sizeof header));
    if (header[0] != 20240520 && header[0] != 20240801) return read_without_header(header[0], vocab_size);
    header_bytes_ = sizeof header;
    token_bytes_ = header[0] == 20240520 ? 2 : 4;
    const std::int32_t version = token_bytes_ == 2 ? 1 : 7;
    if (header[1] != version)
      fail("is a token shard of version " + std::to_string(header[1]) + "; version " +
           std::to_string(version) + " was expected");
    if (map_bytes_ < sizeof header)
      fail("is truncated: " + std::to_string(map_bytes_) + " bytes, less than its header of " +
           std::to_string(sizeof header));
    size_ = header[2];
    if (size_ < 0) fail("claims a negative number of tokens in its header (" + std::to_string(size_) + ")");
    const auto payload = static_cast<std::int64_t>(map_bytes_ - sizeof header);
    if (payload < size_ * token_bytes_)
      fail("is truncated: its header claims " + std::to_string(size_) + " tokens, it holds " +
           std::to_string(payload / token_bytes_));
    if (payload > size_ * token_bytes_)
      fail("has " + std::to_string(payload - size_ * token_bytes_) + " bytes after the " +
           std::to_string(size_) + " tokens its header claims; it is damaged or of another format");
  }

  void read_without_header(std::int32_t start, std::int64_t vocab_size) {
    if (vocab_size == 0) vocab_size = read_vocab_size(path_);
    if (vocab_size == 0)
      fail(
          "is not a token shard: it starts with " + std::to_string(start) +
          " where llm.c's .bin format has 20240520 or 20240801; make one with prepare_corpus or, if it holds "
          "bare uint16 tokens as nanoGPT's do, tell their vocabulary with --vocab-size");
    if (map_bytes_ % sizeof(std::uint16_t) != 0)
      fail("is not a token shard: it has no header and " + std::to_string(map_bytes_) +
           " bytes, which are not whole uint16 tokens");
    size_ = static_cast<std::int64_t>(map_bytes_ / sizeof(std::uint16_t));
    vocab_size_ = vocab_size;
  }

  [[noreturn]] void fail(const std::string& what) const {
    throw Error(excerpt(path_.native()) + " " + what + ".");
  }

  template <class Token>
  const Token* tokens() const {
    return reinterpret_cast<const Token*>(static_cast<const char*>(map_) + header_bytes_);
  }

  // A plain loop, because compilers vectorize it but not std::max_element.
  template <class Token>
  std::int32_t largest() const {
    const Token* const values = tokens<Token>();
    Token best = 0;
    for (std::int64_t i = 0; i < size_; ++i) best = std::max(best, values[i]);
    return static_cast<std::int32_t>(std::min<std::uint32_t>(best, std::numeric_limits<std::int32_t>::max()));
  }

  std::filesystem::path path_;
  void* map_ = nullptr;
  std::size_t map_bytes_ = 0;
  std::size_t header_bytes_ = 0;
  std::int64_t size_ = 0;
  int token_bytes_ = 2;
  std::int64_t vocab_size_ = 0;
};

/// Writes a token shard incrementally, as uint16 if the vocabulary allows it, as uint32 beyond 65,536. The
/// shard appears under its name when finish() is called; a writer destroyed before leaves nothing behind.
class TokenShardWriter {
 public:
  /// Starts the shard `path` over a vocabulary of `vocab_size` ids. With `keep`, it continues after the first
  /// `keep` tokens flushed by a killed process. Throws Error if the file cannot be written, or has fewer
  /// tokens.
  TokenShardWriter(const std::filesystem::path& path, std::int64_t vocab_size, std::int64_t keep = 0)
      : file_(path, keep > 0 ? bytes_of(keep, vocab_size) : 0),
        vocab_size_(vocab_size),
        token_bytes_(token_bytes(vocab_size)),
        size_(keep) {
    const ShardHeader room{};
    if (keep == 0) file_.write(room.data(), sizeof room);
  }

  /// Whether a killed process has left the first `tokens` tokens, which a writer with `keep` needs, in the
  /// temporary of `path`.
  static bool can_continue(const std::filesystem::path& path, std::int64_t vocab_size, std::int64_t tokens) {
    std::error_code missing;
    const auto bytes = std::filesystem::file_size(AtomicFile::temporary_of(path), missing);
    return !missing && bytes >= static_cast<std::uintmax_t>(bytes_of(tokens, vocab_size));
  }

  /// Forces what was appended so far to disk, so that a later writer can continue if this process is killed.
  void flush() { file_.flush(); }

  /// Tokens appended so far.
  std::int64_t size() const { return size_; }

  /// Appends tokens. Throws Error for an id outside the vocabulary, and if the format's count would overflow.
  void append(std::span<const std::int32_t> tokens) {
    for (const auto token : tokens)
      if (token < 0 || token >= vocab_size_)
        throw Error(excerpt(file_.path().native()) + " cannot take token id " + std::to_string(token) +
                    ": its vocabulary has " + std::to_string(vocab_size_) + " entries.");
    const auto size = size_ + static_cast<std::int64_t>(tokens.size());
    make_shard_header(size, token_bytes_);
    if (token_bytes_ == 2) {
      narrow_.assign(tokens.begin(), tokens.end());
      file_.write(narrow_.data(), narrow_.size() * sizeof(std::uint16_t));
    } else {
      file_.write(tokens.data(), tokens.size_bytes());
    }
    size_ = size;
  }

  /// Completes the shard and its description `info`, with the vocabulary size and the token count filled in,
  /// and forces both to disk, so that little can go wrong in commit(). Nothing may be appended afterwards.
  void complete(ShardInfo info) {
    info.vocab_size = vocab_size_;
    info.tokens = size_;
    const auto header = make_shard_header(size_, token_bytes_);
    file_.rewind();
    file_.write(header.data(), sizeof header);
    file_.flush();
    const Json json{{"vocab_size", info.vocab_size},
                    {"context", info.context},
                    {"documents", info.documents},
                    {"tokens", info.tokens},
                    {"tokenizer", info.tokenizer},
                    {"tokenizer_fingerprint", info.tokenizer_fingerprint},
                    {"split", info.split}};
    const std::string text = json.dump(2) + "\n";
    description_.emplace(shard_info_path(file_.path()));
    description_->write(text.data(), text.size());
    description_->flush();
  }

  /// Makes the completed files appear under their names.
  void commit() {
    file_.commit();
    description_->commit();
  }

  /// Makes the shard appear under the name `path`; see AtomicFile::rename(). To be called before complete().
  void rename(const std::filesystem::path& path) { file_.rename(path); }

  /// Closes the completed files until commit(); see AtomicFile::close().
  void close() {
    file_.close();
    description_->close();
  }

  /// Completes the shard, writes `info` beside it and makes both appear.
  void finish(ShardInfo info) {
    complete(std::move(info));
    commit();
  }

 private:
  static int token_bytes(std::int64_t vocab_size) { return vocab_size <= 65536 ? 2 : 4; }

  static std::int64_t bytes_of(std::int64_t tokens, std::int64_t vocab_size) {
    return static_cast<std::int64_t>(sizeof(ShardHeader)) + tokens * token_bytes(vocab_size);
  }

  AtomicFile file_;
  std::optional<AtomicFile> description_;
  std::int64_t vocab_size_;
  int token_bytes_;
  std::int64_t size_ = 0;
  std::vector<std::uint16_t> narrow_;
};

}  // namespace lnfree
