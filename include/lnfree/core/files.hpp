#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <string>
#include <system_error>
#include <utility>

#include <lnfree/core/error.hpp>
#include <lnfree/core/excerpt.hpp>

/// What is at a path, and the content of files. The functions of std::filesystem that do the same throw other
/// exceptions, and a stream opens folders and waits for the writer of a FIFO.
namespace lnfree {

/// The most symbolic links that the system follows in a path.
inline constexpr int max_links = 40;

/// What the system says about a path that it could not use; `error` is its errno. For a link that leads to
/// nothing, it says where the link leads.
inline std::string system_message(const std::filesystem::path& path, int error) {
  const std::string message = std::strerror(error);
  std::error_code no_link;
  const std::filesystem::path to = std::filesystem::read_symlink(path, no_link);
  return error == ENOENT && !no_link ? message + ", it is a link to " + excerpt(to.native()) : message;
}

/// What is at the end of a path and of the links there: not_found if there is nothing. Throws Error if that
/// cannot be found out, for example because links form a loop, a name is too long or a folder may not be
/// searched.
inline std::filesystem::file_type type_of(const std::filesystem::path& path) {
  std::error_code error;
  const auto type = std::filesystem::status(path, error).type();
  if (type == std::filesystem::file_type::none)
    throw Error(excerpt(path.native()) + " cannot be used: " + error.message() + ".");
  return type;
}

/// Whether there is anything at a path. Throws Error as type_of() does.
inline bool path_exists(const std::filesystem::path& path) {
  return type_of(path) != std::filesystem::file_type::not_found;
}

/// Whether there is a folder at a path. Throws Error as type_of() does.
inline bool is_folder(const std::filesystem::path& path) {
  return type_of(path) == std::filesystem::file_type::directory;
}

/// Whether there is a regular file at a path. Throws Error as type_of() does.
inline bool is_file(const std::filesystem::path& path) {
  return type_of(path) == std::filesystem::file_type::regular;
}

/// A regular file that is open for reading at any position.
class FileReader {
 public:
  /// Throws Error if the file cannot be opened or is not a regular file, for example a folder or a FIFO;
  /// `expected` is what should be there, such as "a token shard (.bin)".
  FileReader(std::filesystem::path path, const std::string& expected) : path_(std::move(path)) {
    // Opening a FIFO would wait for a writer.
    descriptor_ = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor_ < 0) fail(errno);
    struct stat status{};
    const int failed = ::fstat(descriptor_, &status) != 0 ? errno : 0;
    if (failed == 0 && S_ISREG(status.st_mode)) {
      size_ = static_cast<std::uint64_t>(status.st_size);
      return;
    }
    ::close(descriptor_);
    if (failed != 0) fail(failed);
    throw Error("cannot read " + excerpt(path_.native()) + ": it is not a file; " + expected +
                " was expected");
  }

  FileReader(FileReader&& other) noexcept
      : path_(std::move(other.path_)),
        descriptor_(std::exchange(other.descriptor_, -1)),
        size_(other.size_) {}
  FileReader& operator=(FileReader&&) = delete;
  ~FileReader() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }

  /// The file.
  const std::filesystem::path& path() const { return path_; }
  /// Its size in bytes when it was opened.
  std::uint64_t size() const { return size_; }
  /// The file's descriptor, for mmap.
  int descriptor() const { return descriptor_; }

  /// Reads `bytes` bytes from position `offset`. Throws Error if they cannot be read.
  void read(std::uint64_t offset, void* to, std::size_t bytes) const {
    if (read_some(offset, to, bytes) != bytes)
      throw Error(excerpt(path_.native()) + " ended while it was read");
  }

  /// Reads up to `bytes` bytes; returns how many there were before the end. Throws Error if they cannot be
  /// read.
  std::size_t read_some(std::uint64_t offset, void* to, std::size_t bytes) const {
    std::size_t done = 0;
    while (done < bytes) {
      const ssize_t got = ::pread(descriptor_, static_cast<char*>(to) + done, bytes - done,
                                  static_cast<off_t>(offset + done));
      if (got < 0) fail(errno);
      if (got == 0) break;
      done += static_cast<std::size_t>(got);
    }
    return done;
  }

 private:
  [[noreturn]] void fail(int error) const {
    throw Error("cannot read " + excerpt(path_.native()) + ": " + system_message(path_, error));
  }

  std::filesystem::path path_;
  int descriptor_ = -1;
  std::uint64_t size_ = 0;
};

/// The whole content of a file. Throws Error if it cannot be read, is not a regular file, or has more than
/// 1 GiB; `expected` is what should be there.
inline std::string read_text(const std::filesystem::path& path, const std::string& expected) {
  constexpr std::uint64_t max_bytes = std::uint64_t{1} << 30;
  const FileReader file(path, expected);
  if (file.size() > max_bytes)
    throw Error("cannot read " + excerpt(path.native()) + ": it has " + std::to_string(file.size()) +
                " bytes, too many for " + expected);
  std::string text;
  // The size of a file that the system makes up, such as those in /proc, is 0.
  std::array<char, 1 << 12> rest;
  text.resize(static_cast<std::size_t>(file.size()));
  text.resize(file.read_some(0, text.data(), text.size()));
  while (const std::size_t more = file.read_some(text.size(), rest.data(), rest.size())) {
    text.append(rest.data(), more);
    if (text.size() > max_bytes)
      throw Error("cannot read " + excerpt(path.native()) + ": it has too many bytes for " + expected);
  }
  return text;
}

}  // namespace lnfree
