#pragma once

#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <limits>
#include <string>
#include <system_error>
#include <utility>

#include <lnfree/core/atomic_file.hpp>
#include <lnfree/core/error.hpp>
#include <lnfree/core/excerpt.hpp>
#include <lnfree/core/files.hpp>
#include <lnfree/core/json.hpp>
#include <lnfree/core/new_folder.hpp>

/// The folder of a checkpoint as a whole: which one a path means, how a new one takes its place, and what its
/// trainer.json holds.
namespace lnfree {

/// The folder that a path means: without a slash or dots at its end, and with links followed, so that a
/// checkpoint that was moved to another disk stays there. Throws Error if links form a loop or the path
/// cannot be used for another reason.
inline std::filesystem::path checkpoint_place(std::filesystem::path folder) {
  type_of(folder);
  std::error_code error;
  for (int links = 0; links <= max_links; ++links) {
    if (!folder.has_filename()) folder = folder.parent_path();
    if (folder.filename() == "." || folder.filename() == "..") {
      if (auto whole = std::filesystem::canonical(folder, error); !error) folder = std::move(whole);
    }
    if (!std::filesystem::is_symlink(folder, error)) break;
    folder = folder.parent_path() / std::filesystem::read_symlink(folder, error);
  }
  return folder;
}

/// Where a finished checkpoint waits for the place of an older one, on a file system that cannot exchange two
/// folders.
inline std::filesystem::path next_folder(const std::filesystem::path& folder) {
  return checkpoint_place(folder) += ".next";
}

/// Whether a folder holds all files of a checkpoint: trainer.json is the last to be written and the first to
/// be removed.
inline bool is_whole_checkpoint(const std::filesystem::path& folder) {
  std::error_code error;
  return std::filesystem::exists(folder / "trainer.json", error);
}

/// The folder to read the checkpoint `folder` from: another one where a process died while it replaced the
/// checkpoint.
inline std::filesystem::path present_checkpoint(const std::filesystem::path& folder) {
  const std::filesystem::path next = next_folder(folder);
  return is_whole_checkpoint(next) ? next : folder;
}

/// Gives the finished checkpoint `next` the place of `target`. There is always a whole one in `next` or, once
/// that is gone, in `target`. Throws Error when the files cannot be written there.
inline void move_checkpoint(const std::filesystem::path& next, const std::filesystem::path& target) {
  std::error_code error;
  std::filesystem::remove_all(target, error);
  if (std::filesystem::rename(next, target, error); !error) return;
  // An overlay cannot rename a folder that comes from a lower layer, and a folder that something is mounted
  // on can neither be removed nor replaced. Both take files.
  error.clear();
  std::filesystem::create_directories(target, error);
  if (!error) {
    constexpr auto over = std::filesystem::copy_options::overwrite_existing;
    std::filesystem::copy(next, target, over | std::filesystem::copy_options::recursive, error);
  }
  if (error) {
    throw Error("cannot copy the checkpoint from " + next.string() + " to " + target.string() + ": " +
                error.message() + "; it is whole where it is");
  }
  sync_file_system(target);
  std::filesystem::remove(next / "trainer.json", error);
  std::filesystem::remove_all(next, error);
}

/// Completes what a process that died in replace_checkpoint() had begun. For whoever writes the checkpoint:
/// readers ask present_checkpoint().
inline void recover_checkpoint(const std::filesystem::path& folder) {
  if (const auto next = next_folder(folder); is_whole_checkpoint(next))
    move_checkpoint(next, checkpoint_place(folder));
}

/// Puts the finished checkpoint `fresh` in the place of `target`, which may exist: whoever looks at `target`
/// sees the old one or the new one, whole. Where the file system cannot exchange two folders, there is a
/// moment in which only present_checkpoint() knows where it is.
inline void replace_checkpoint(const std::filesystem::path& fresh, const std::filesystem::path& target) {
  recover_checkpoint(target);
  const std::filesystem::path parent = std::filesystem::absolute(target).parent_path();
  const bool exists = path_exists(target);
  std::error_code error;
  if (exists && ::renameat2(AT_FDCWD, fresh.c_str(), AT_FDCWD, target.c_str(), RENAME_EXCHANGE) == 0) {
    sync_folder(parent);
    std::filesystem::remove_all(fresh, error);
    return;
  }
  const std::filesystem::path place = exists ? next_folder(target) : target;
  if (exists) std::filesystem::remove_all(place, error);
  if (std::filesystem::rename(fresh, place, error); error) {
    throw Error("cannot rename " + fresh.string() + " to " + place.string() + ": " + error.message());
  }
  sync_folder(parent);
  if (!exists) return;
  move_checkpoint(place, target);
  sync_folder(parent);
}

/// The folder in which the config.json of a model lies whose weights are in a file or folder.
inline std::filesystem::path model_folder(const std::filesystem::path& weights) {
  return is_folder(weights) ? weights : std::filesystem::absolute(weights).parent_path();
}

/// A new folder in which this process alone prepares what is going to replace another folder. Its name is
/// AtomicFile::temporary_of() that folder. It replaces a folder of that name that a killed process left.
class PartFolder {
 public:
  /// Throws Error if the folder cannot be made, another process is using it, or its name is taken by
  /// something that no process of lnfree left.
  explicit PartFolder(const std::filesystem::path& target)
      : path_(AtomicFile::temporary_of(target)), parents_(std::filesystem::absolute(target).parent_path()) {
    const std::string name = excerpt(target.native());
    const Error taken(name + " cannot be written: " + excerpt(path_.native()) +
                      ", the name of its temporary, is taken; remove that.");
    for (struct stat opened{}, named{};; ::close(descriptor_)) {
      if (::mkdir(path_.c_str(), 0777) != 0 && errno != EEXIST)
        throw Error(name + " cannot be written: " + std::strerror(errno) + ".");
      descriptor_ = ::open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
      if (descriptor_ < 0 && errno == ENOENT) continue;
      if (descriptor_ < 0) throw taken;
      // Not every file system has locks.
      if (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
        ::close(descriptor_);
        throw Error(name + " is being written by another process; wait for it or stop it.");
      }
      // Until the lock another process may have given the folder its final place.
      if (::fstat(descriptor_, &opened) == 0 && ::lstat(path_.c_str(), &named) == 0 &&
          named.st_ino == opened.st_ino && named.st_dev == opened.st_dev)
        break;
    }
    std::error_code error;
    for (std::filesystem::directory_iterator entry(path_, error), end; !error && entry != end;
         entry.increment(error)) {
      if (!entry->is_regular_file(error) || entry->is_symlink(error)) {
        ::close(descriptor_);
        throw taken;
      }
    }
    for (std::filesystem::directory_iterator entry(path_, error), end; !error && entry != end;
         entry.increment(error))
      ::unlink(entry->path().c_str());
  }
  PartFolder(const PartFolder&) = delete;
  PartFolder& operator=(const PartFolder&) = delete;
  ~PartFolder() {
    std::error_code error;
    if (!is_complete_) std::filesystem::remove_all(path_, error);  // others may need the disk
    ::close(descriptor_);
  }

  /// The folder.
  const std::filesystem::path& path() const { return path_; }

  /// Keeps the folder, which has its final place now.
  void keep() {
    is_complete_ = true;
    parents_.keep();
  }

 private:
  std::filesystem::path path_;
  NewFolder parents_;
  int descriptor_ = -1;
  bool is_complete_ = false;
};

/// Removes what a process left beside the checkpoint `folder` if it was killed while it wrote it. Only the
/// process that writes the checkpoint may call this. Throws Error as PartFolder does.
inline void remove_part(const std::filesystem::path& folder) {
  const std::filesystem::path target = checkpoint_place(folder);
  if (path_exists(AtomicFile::temporary_of(target))) PartFolder{target};
}

/// Calls fill(fresh) with a new folder beside `folder`, and gives it the place of `folder`, which may exist,
/// in one step. When anything throws, what was there before stays and the new folder is removed. Throws Error
/// when the folder cannot be made.
template <class Fill>
void write_checkpoint(const std::filesystem::path& folder, const Fill& fill) {
  const std::filesystem::path target = checkpoint_place(folder);
  PartFolder fresh(target);
  fill(fresh.path());
  replace_checkpoint(fresh.path(), target);
  fresh.keep();
}

/// Throws Error if `folder` is that of a run, for a reader who found no model in it.
inline void refuse_run_folder(const std::filesystem::path& folder) {
  const std::filesystem::path checkpoint = folder / "checkpoint";
  if (is_folder(checkpoint))
    throw Error(excerpt(folder.native()) + " is the folder of a run; give its checkpoint, " +
                excerpt(checkpoint.native()));
}

/// Throws Error unless `folder` holds a model, with a config.json that can be read. The message says which
/// folder to give instead, if it is a file of the model or the folder of a run.
inline void require_model_folder(const std::filesystem::path& folder) {
  const auto name = [](const std::filesystem::path& path) { return excerpt(path.native()); };
  if (path_exists(folder) && !is_folder(folder)) {
    const std::filesystem::path parent = model_folder(folder);
    throw Error(name(folder) + " is a file; give the folder of a model" +
                (is_file(parent / "config.json") ? ", " + name(parent)
                                                 : ", which holds config.json and its weights"));
  }
  if (!path_exists(folder / "config.json")) refuse_run_folder(folder);
  const FileReader config(folder / "config.json", "a JSON object");
}

/// A JSON file of a checkpoint. Throws Error when there is none or it is damaged.
inline Json read_checkpoint_json(const std::filesystem::path& path) {
  if (!path_exists(path)) throw Error("there is no checkpoint to resume from: cannot read " + path.string());
  return read_json_object(path);
}

/// A count that a checkpoint's trainer.json must hold, up to `max`. Throws Error when it does not.
inline std::int64_t checkpoint_count(const std::filesystem::path& folder, const Json& state, const char* key,
                                     std::int64_t max = std::numeric_limits<std::int64_t>::max()) {
  const auto found = state.find(key);
  if (found == state.end() || !found->is_number_integer() || found->get<std::int64_t>() < 0 ||
      found->get<std::int64_t>() > max) {
    throw Error((folder / "trainer.json").string() + " is damaged: it holds no count of " + key +
                (max < std::numeric_limits<std::int64_t>::max() ? " up to " + std::to_string(max) : ""));
  }
  return found->get<std::int64_t>();
}

/// The trainer.json of a checkpoint. Throws Error when there is none or it is damaged.
inline Json read_checkpoint_state(const std::filesystem::path& folder) {
  return read_checkpoint_json(present_checkpoint(folder) / "trainer.json");
}

}  // namespace lnfree
