#pragma once

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>

#include <lnfree/core/error.hpp>
#include <lnfree/core/excerpt.hpp>
#include <lnfree/core/parse_number.hpp>

namespace lnfree {

/// Forces a folder's entries, such as a rename, to disk. File systems that cannot do that are left alone.
inline void sync_folder(const std::filesystem::path& folder) {
  if (const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); descriptor >= 0) {
    ::fsync(descriptor);
    ::close(descriptor);
  }
}

/// Forces everything written to a folder's file system to disk.
inline void sync_file_system(const std::filesystem::path& folder) {
  if (const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); descriptor >= 0) {
    ::syncfs(descriptor);
    ::close(descriptor);
  }
}

/// A file that appears under its name only when it is complete: written to a hidden temporary beside it,
/// synced to disk and renamed by commit(). Without commit() the destructor removes the temporary and leaves
/// the old file as it was. Only one process at a time can write a given file. A temporary left by a killed
/// process is reused, and its start can be kept.
///
/// A symbolic link stays a link: the file it points to is replaced. Anything but a regular file (a FIFO, a
/// device, /dev/stdout or another of the process's own descriptors) is never replaced: commit() writes to it.
class AtomicFile {
 public:
  /// Opens the temporary for writing, and the FIFO or device if the path is one; a FIFO blocks until it has a
  /// reader. Throws Error if the path is a folder or leads nowhere, cannot be written, or is being written by
  /// another process.
  ///
  /// With `keep`, the first `keep` bytes of the temporary left by a killed process are kept, and writing
  /// continues after them; throws Error if there are fewer.
  explicit AtomicFile(std::filesystem::path path, std::int64_t keep = 0)
      : path_(std::move(path)), target_(path_) {
    follow_links();
    if (special_ < 0)
      open_temporary(keep);
    else if (file_ = std::tmpfile(); file_ == nullptr)
      fail_closing(special_);
  }

  AtomicFile(AtomicFile&& other) noexcept
      : path_(std::move(other.path_)),
        target_(std::move(other.target_)),
        temporary_(std::move(other.temporary_)),
        special_(std::exchange(other.special_, -1)),
        file_(std::exchange(other.file_, nullptr)),
        is_closed_(std::exchange(other.is_closed_, false)) {}

  AtomicFile& operator=(AtomicFile&&) = delete;

  ~AtomicFile() { discard(); }

  /// The path given to the constructor.
  const std::filesystem::path& path() const { return path_; }

  /// The file that is replaced: path(), or the file that the link points to.
  const std::filesystem::path& target() const { return target_; }

  /// The temporary of `path`, whether or not it exists; links are not followed.
  static std::filesystem::path temporary_of(const std::filesystem::path& path) {
    return path.parent_path() / std::filesystem::path(".").concat(path.filename().string()).concat(".tmp");
  }

  /// Writes `size` bytes at the current position. Throws Error if that fails, for example because the disk is
  /// full.
  void write(const void* data, std::size_t size) {
    if (size != 0 && std::fwrite(data, 1, size, file_) != size) fail("could not be written");
  }

  /// Moves the position of the next write to the start of the file.
  void rewind() {
    if (::fseeko(file_, 0, SEEK_SET) != 0) fail("could not be written");
  }

  /// Syncs everything written so far to disk, so that little can go wrong in commit().
  void flush() {
    if (std::fflush(file_) != 0 || ::fsync(::fileno(file_)) != 0) fail("could not be written");
  }

  /// Makes commit() give the file the name `path` instead. The temporary keeps its name, unless that of
  /// `path` has to be on another file system: then what was written is copied there. Throws Error if the file
  /// cannot get that name, for example because it is that of a folder, and if either file is a FIFO or
  /// device.
  void rename(std::filesystem::path path) {
    AtomicFile other(std::move(path));
    if (special_ >= 0 || other.special_ >= 0)
      throw Error(excerpt((special_ >= 0 ? path_ : other.path_).native()) +
                  " is a pipe or device; the name of a file was expected.");
    struct stat from{}, to{};
    if (::fstat(::fileno(file_), &from) != 0 || ::fstat(::fileno(other.file_), &to) != 0)
      fail("could not be renamed");
    if (from.st_dev != to.st_dev) {
      copy([&](const char* data, std::size_t size) { other.write(data, size); });
      std::swap(temporary_, other.temporary_);
      std::swap(file_, other.file_);
    }
    path_ = other.path_;
    target_ = other.target_;
  }

  /// Syncs the file to disk and closes it until commit(), so that many can wait at a time. The caller has to
  /// keep other processes from writing the same file. Nothing may be written afterwards.
  void close() {
    flush();
    if (special_ >= 0) return;
    std::fclose(std::exchange(file_, nullptr));
    is_closed_ = true;
  }

  /// Makes the file appear under its name, replacing an older one. Nothing may be written afterwards.
  void commit() {
    if (!is_closed_) flush();
    if (special_ >= 0) {
      pass_on();
      ::close(std::exchange(special_, -1));
    } else if (::rename(temporary_.c_str(), target_.c_str()) != 0) {
      fail("could not be renamed into place");
    }
    if (!std::exchange(is_closed_, false)) std::fclose(std::exchange(file_, nullptr));
    if (!temporary_.empty()) sync_folder(folder_of(target_));
  }

 private:
  [[noreturn]] void fail(const char* what) const {
    throw Error(excerpt(path_.native()) + " " + what + ": " + std::strerror(errno) + ".");
  }

  [[noreturn]] void fail_closing(int descriptor) const {
    const int error = errno;
    ::close(descriptor);
    errno = error;
    fail("cannot be written");
  }

  static std::filesystem::path folder_of(const std::filesystem::path& file) {
    return file.has_parent_path() ? file.parent_path() : std::filesystem::path(".");
  }

  // The descriptor of this process that `path` names (/proc/self/fd/1), or -1 for other paths.
  static int own_descriptor(const std::filesystem::path& path) {
    const auto number = parse_number<int>(path.filename().native());
    if (!number) return -1;
    std::error_code missing;
    const auto own = std::filesystem::canonical("/proc/self/fd", missing);
    return !missing && std::filesystem::canonical(folder_of(path), missing) == own ? *number : -1;
  }

  // Finds the file to replace, or opens the FIFO or device.
  void follow_links() {
    for (int links = 0;; ++links) {
      // Opening the path again would overwrite a file from its start, so the descriptor is duplicated.
      if (const int number = own_descriptor(target_); number >= 0) {
        special_ = ::fcntl(number, F_DUPFD_CLOEXEC, 3);
        if (special_ < 0) fail("cannot be written");
        if ((::fcntl(special_, F_GETFL) & O_ACCMODE) == O_RDONLY) {
          errno = EBADF;
          fail_closing(std::exchange(special_, -1));
        }
        return;
      }
      std::error_code no_link;
      const auto next = std::filesystem::read_symlink(target_, no_link);
      if (no_link) break;
      errno = ELOOP;
      if (links == 40) fail("cannot be written");
      target_ = target_.parent_path() / next;
    }
    struct stat status{};
    if (::stat(target_.c_str(), &status) != 0) {
      if (errno != ENOENT) fail("cannot be written");
      if (!target_.has_filename()) fail("names no file");
    } else if (S_ISDIR(status.st_mode)) {
      throw Error(excerpt(path_.native()) + " is a folder; the name of a file was expected.");
    } else if (S_ISBLK(status.st_mode)) {
      throw Error(excerpt(path_.native()) + " is a disk; the name of a file was expected.");
    } else if (!S_ISREG(status.st_mode)) {
      special_ = ::open(target_.c_str(), O_WRONLY | O_CLOEXEC | O_NOCTTY);
      if (special_ < 0) fail("cannot be written");
    }
  }

  void open_temporary(std::int64_t keep) {
    temporary_ = temporary_of(target_);
    int descriptor = -1;
    for (struct stat opened{}, named{};; ::close(descriptor)) {
      // Emptied only once it is locked: it may be another process's work.
      descriptor = ::open(temporary_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0666);
      const bool taken = descriptor < 0 ? errno == ELOOP || errno == EISDIR
                                        : ::fstat(descriptor, &opened) == 0 && !S_ISREG(opened.st_mode);
      if (descriptor < 0 && !taken) fail("cannot be written");
      if (taken) {
        if (descriptor >= 0) ::close(descriptor);
        throw Error(excerpt(path_.native()) + " cannot be written: " + excerpt(temporary_.native()) +
                    ", the name of its temporary, is taken; remove that.");
      }
      // Not every file system has locks.
      if (::flock(descriptor, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
        ::close(descriptor);
        throw Error(excerpt(path_.native()) +
                    " is being written by another process; wait for it or stop it.");
      }
      // Between open and lock another process may have renamed the temporary into its finished file.
      if (::lstat(temporary_.c_str(), &named) == 0 && named.st_ino == opened.st_ino &&
          named.st_dev == opened.st_dev)
        break;
    }
    struct stat older{};
    if (::stat(target_.c_str(), &older) == 0) ::fchmod(descriptor, older.st_mode & 0777);
    if (keep > 0 && (::fstat(descriptor, &older) != 0 || older.st_size < keep)) {
      ::close(descriptor);
      throw Error(excerpt(temporary_.native()) + " no longer holds the " + std::to_string(keep) +
                  " bytes that an interrupted run left; start again.");
    }
    if (::ftruncate(descriptor, keep) == 0 && ::lseek(descriptor, keep, SEEK_SET) == keep)
      file_ = ::fdopen(descriptor, "w+b");
    if (file_ == nullptr) {
      const int error = errno;
      ::unlink(temporary_.c_str());
      errno = error;
      fail_closing(descriptor);
    }
  }

  // Calls write(data, size) for each part of what has been written.
  template <class Write>
  void copy(const Write& write) {
    rewind();
    std::array<char, 1 << 16> block;
    while (const std::size_t read = std::fread(block.data(), 1, block.size(), file_))
      write(block.data(), read);
    if (std::ferror(file_)) fail("could not be read");
  }

  // Copies the temporary to the FIFO or device.
  void pass_on() {
    std::fflush(stdout);  // in case it is the same file: keep the order
    copy([&](const char* data, std::size_t size) {
      for (std::size_t done = 0; done < size;) {
        const auto written = ::write(special_, data + done, size - done);
        if (written < 0 && errno != EINTR) fail("could not be written");
        if (written > 0) done += static_cast<std::size_t>(written);
      }
    });
  }

  // Unlinked while still locked, so that another process's new temporary is never removed.
  void discard() {
    if (special_ >= 0) ::close(std::exchange(special_, -1));
    if (file_ == nullptr && !is_closed_) return;
    if (!temporary_.empty()) ::unlink(temporary_.c_str());
    if (!std::exchange(is_closed_, false)) std::fclose(std::exchange(file_, nullptr));
  }

  std::filesystem::path path_;
  std::filesystem::path target_;
  std::filesystem::path temporary_;  // empty for a FIFO or device
  int special_ = -1;                 // the FIFO or device
  std::FILE* file_ = nullptr;
  bool is_closed_ = false;  // complete, waits for commit()
};

/// Writes a whole small file atomically.
inline void write_file(const std::filesystem::path& path, std::string_view content) {
  AtomicFile file(path);
  file.write(content.data(), content.size());
  file.commit();
}

}  // namespace lnfree
