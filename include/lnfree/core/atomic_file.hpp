#pragma once

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>

#include <lnfree/core/error.hpp>

namespace lnfree {

/// Forces a folder's entries, such as a rename, to the disk. A file system that cannot do that does no harm.
inline void sync_folder(const std::filesystem::path& folder) {
  if (const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); descriptor >= 0) {
    ::fsync(descriptor);
    ::close(descriptor);
  }
}

/// Forces all that was written to a folder's file system to the disk.
inline void sync_file_system(const std::filesystem::path& folder) {
  if (const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); descriptor >= 0) {
    ::syncfs(descriptor);
    ::close(descriptor);
  }
}

/// A file that appears under its name only when it is complete: written to a hidden temporary beside it,
/// synced to the disk and renamed by commit(). Without commit() the destructor removes the temporary and what
/// was there before stays. One process at a time may write a given file; a temporary left by a killed one is
/// reused.
class AtomicFile {
 public:
  /// Opens the temporary for writing. Throws Error if the folder cannot be written or another process is at
  /// it.
  explicit AtomicFile(std::filesystem::path path)
      : path_(std::move(path)),
        temporary_(path_.parent_path() /
                   std::filesystem::path(".").concat(path_.filename().string()).concat(".tmp")) {
    // Emptied only once it is locked: it may be another process's work.
    const int descriptor = ::open(temporary_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (descriptor < 0) fail("cannot be written");
    if (::flock(descriptor, LOCK_EX | LOCK_NB) != 0) {
      ::close(descriptor);
      throw Error(path_.string() + " is being written by another process; wait for it or stop it.");
    }
    if (::ftruncate(descriptor, 0) == 0) file_ = ::fdopen(descriptor, "w+b");
    if (file_ == nullptr) {
      const int error = errno;
      ::unlink(temporary_.c_str());
      ::close(descriptor);
      errno = error;
      fail("cannot be written");
    }
  }

  AtomicFile(AtomicFile&& other) noexcept
      : path_(std::move(other.path_)),
        temporary_(std::move(other.temporary_)),
        file_(std::exchange(other.file_, nullptr)) {}

  AtomicFile& operator=(AtomicFile&&) = delete;

  ~AtomicFile() { discard(); }

  /// The final name.
  const std::filesystem::path& path() const { return path_; }

  /// Writes `size` bytes at the current position. Throws Error if the disk refuses (full, for one).
  void write(const void* data, std::size_t size) {
    if (size != 0 && std::fwrite(data, 1, size, file_) != size) fail("could not be written");
  }

  /// Moves the position of the next write to the start of the file.
  void rewind() {
    if (::fseeko(file_, 0, SEEK_SET) != 0) fail("could not be written");
  }

  /// Makes the file appear under its name, replacing an older one. Nothing may be written afterwards.
  void commit() {
    if (std::fflush(file_) != 0 || ::fsync(::fileno(file_)) != 0) fail("could not be written");
    if (::rename(temporary_.c_str(), path_.c_str()) != 0) fail("could not be renamed into place");
    std::fclose(std::exchange(file_, nullptr));
    sync_folder(path_.has_parent_path() ? path_.parent_path() : std::filesystem::path("."));
  }

 private:
  [[noreturn]] void fail(const char* what) const {
    throw Error(path_.string() + " " + what + ": " + std::strerror(errno) + ".");
  }

  // Unlinked while still locked, so that another process's new temporary is never removed.
  void discard() {
    if (file_ == nullptr) return;
    ::unlink(temporary_.c_str());
    std::fclose(std::exchange(file_, nullptr));
  }

  std::filesystem::path path_;
  std::filesystem::path temporary_;
  std::FILE* file_ = nullptr;
};

/// Writes a whole small file atomically.
inline void write_file(const std::filesystem::path& path, std::string_view content) {
  AtomicFile file(path);
  file.write(content.data(), content.size());
  file.commit();
}

}  // namespace lnfree
