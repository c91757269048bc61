#pragma once

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <string>
#include <utility>

#include <lnfree/core/error.hpp>
#include <lnfree/core/json.hpp>

namespace lnfree {

/// metrics.jsonl: one JSON object per line, flushed after each line. NaN and infinity become null.
class MetricsLog {
 public:
  /// Opens the file for this process alone, creating it if needed. Its content is left unchanged until
  /// keep().
  explicit MetricsLog(std::filesystem::path path) : path_(std::move(path)) {
    is_new_ = ::access(path_.c_str(), F_OK) != 0;
    descriptor_ = ::open(path_.c_str(), O_RDWR | O_CLOEXEC | O_CREAT, 0644);
    if (descriptor_ < 0) fail();
    if (struct stat status{}; ::fstat(descriptor_, &status) != 0 || !S_ISREG(status.st_mode)) {
      ::close(descriptor_);
      throw Error("cannot write " + path_.string() + ": it is not a file; move it away");
    }
    // Not every file system has locks.
    if (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
      ::close(descriptor_);
      throw Error(path_.string() + " is being written by another process; wait for it or stop it");
    }
    bytes_ = ::lseek(descriptor_, 0, SEEK_END);
  }
  MetricsLog(const MetricsLog&) = delete;
  MetricsLog& operator=(const MetricsLog&) = delete;
  ~MetricsLog() {
    if (is_new_) ::unlink(path_.c_str());
    ::close(descriptor_);
  }

  /// Continues after the first `bytes` of the file, so that a run resumed from a checkpoint logs no step
  /// twice. In a shorter file, such as an incomplete copy, it continues after the last whole line. Throws
  /// Error if no line ends there: then the file belongs to another run.
  void keep(std::int64_t bytes) {
    const bool is_shorter = bytes_ < bytes;
    std::int64_t kept = std::min(bytes, bytes_);
    while (kept > 0 && !ends_line(kept)) {
      if (!is_shorter) {
        throw Error(path_.string() + " does not belong to this checkpoint: no line ends after its first " +
                    std::to_string(bytes) + " bytes; put the right one there, or move this one away");
      }
      --kept;
    }
    if (::ftruncate(descriptor_, kept) != 0 || ::lseek(descriptor_, kept, SEEK_SET) < 0) fail();
    bytes_ = kept;
    is_new_ = false;
  }

  /// Appends `entry` as one line.
  void write(const Json& entry) {
    const std::string line = entry.dump() + "\n";
    for (std::size_t done = 0; done < line.size();) {
      const ssize_t written = ::write(descriptor_, line.data() + done, line.size() - done);
      if (written < 0) fail();
      done += static_cast<std::size_t>(written);
    }
    bytes_ += static_cast<std::int64_t>(line.size());
  }

  /// Forces the metrics to disk, so that a checkpoint never survives without them.
  void sync() {
    if (::fsync(descriptor_) != 0) fail();
  }

  /// Length of the file so far.
  std::int64_t bytes() const { return bytes_; }

 private:
  /// Whether the byte before `end` is a newline.
  bool ends_line(std::int64_t end) const {
    char last = 0;
    if (::pread(descriptor_, &last, 1, end - 1) != 1) fail();
    return last == '\n';
  }

  [[noreturn]] void fail() const {
    throw Error("cannot write " + path_.string() + ": " + std::strerror(errno));
  }

  std::filesystem::path path_;
  int descriptor_ = -1;
  std::int64_t bytes_ = 0;
  bool is_new_ = false;  // created here, and nothing written yet
};

}  // namespace lnfree
