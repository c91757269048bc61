#pragma once

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <string>
#include <utility>

#include <lnfree/core/json.hpp>

#include <lnfree/core/error.hpp>

namespace lnfree {

/// metrics.jsonl: one JSON object a line, on disk as soon as it is written. A number that is no number
/// becomes null.
class MetricsLog {
 public:
  /// Goes on after the first `keep_bytes` of the file: 0 starts anew, and a resumed run keeps what was there
  /// at its checkpoint, so that no step appears twice. One process at a time may write the file.
  MetricsLog(std::filesystem::path path, std::int64_t keep_bytes) : path_(std::move(path)) {
    descriptor_ = ::open(path_.c_str(), O_WRONLY | O_CLOEXEC | (keep_bytes == 0 ? O_CREAT : 0), 0644);
    if (descriptor_ < 0) fail();
    if (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0) {
      ::close(descriptor_);
      throw Error(path_.string() + " is being written by another process; wait for it or stop it");
    }
    const off_t size = ::lseek(descriptor_, 0, SEEK_END);
    if (size < keep_bytes) {
      ::close(descriptor_);
      throw Error(path_.string() + " is shorter than at the checkpoint: it holds " + std::to_string(size) +
                  " of " + std::to_string(keep_bytes) + " bytes; was it replaced?");
    }
    if (::ftruncate(descriptor_, keep_bytes) != 0 || ::lseek(descriptor_, keep_bytes, SEEK_SET) < 0) {
      ::close(descriptor_);
      fail();
    }
    bytes_ = keep_bytes;
  }
  MetricsLog(const MetricsLog&) = delete;
  MetricsLog& operator=(const MetricsLog&) = delete;
  ~MetricsLog() { ::close(descriptor_); }

  void write(const Json& entry) {
    const std::string line = entry.dump() + "\n";
    for (std::size_t done = 0; done < line.size();) {
      const ssize_t written = ::write(descriptor_, line.data() + done, line.size() - done);
      if (written < 0) fail();
      done += static_cast<std::size_t>(written);
    }
    bytes_ += static_cast<std::int64_t>(line.size());
  }

  /// Forces what was written to the disk, so that no checkpoint outlives its metrics.
  void sync() {
    if (::fsync(descriptor_) != 0) fail();
  }

  /// Length of the file so far.
  std::int64_t bytes() const { return bytes_; }

 private:
  [[noreturn]] void fail() const {
    throw Error("cannot write " + path_.string() + ": " + std::strerror(errno));
  }

  std::filesystem::path path_;
  int descriptor_ = -1;
  std::int64_t bytes_ = 0;
};

}  // namespace lnfree
