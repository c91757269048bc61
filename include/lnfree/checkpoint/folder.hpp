#pragma once

#include <fcntl.h>
#include <stdio.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <ios>
#include <limits>
#include <string>
#include <system_error>

#include <lnfree/core/atomic_file.hpp>
#include <lnfree/core/error.hpp>
#include <lnfree/core/json.hpp>

/// The folder of a checkpoint as a whole: which one a path means, how a new one takes its place, and what its
/// trainer.json holds.
namespace lnfree {

/// The folder that a path means: without the slash that may end it, and behind the link that it may be, so
/// that a checkpoint which was put on another disk stays there.
inline std::filesystem::path checkpoint_place(std::filesystem::path folder) {
  if (!folder.has_filename()) folder = folder.parent_path();
  constexpr int max_links = 40;  // what the system follows, too
  for (int link = 0; link < max_links && std::filesystem::is_symlink(folder); ++link)
    folder = folder.parent_path() / std::filesystem::read_symlink(folder);
  return folder;
}

/// Where a finished checkpoint waits for the place of an older one, on a file system that cannot exchange two
/// folders.
inline std::filesystem::path next_folder(const std::filesystem::path& folder) {
  return checkpoint_place(folder) += ".next";
}

/// Where a new checkpoint is written before it takes its place.
inline std::filesystem::path part_folder(const std::filesystem::path& folder) {
  return checkpoint_place(folder) += ".part";
}

/// Whether a folder holds all files of a checkpoint: trainer.json is the last to be written and the first to
/// be removed.
inline bool is_whole_checkpoint(const std::filesystem::path& folder) {
  return std::filesystem::exists(folder / "trainer.json");
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
  const bool exists = std::filesystem::exists(target);
  if (exists && ::renameat2(AT_FDCWD, fresh.c_str(), AT_FDCWD, target.c_str(), RENAME_EXCHANGE) == 0) {
    sync_folder(parent);
    std::filesystem::remove_all(fresh);
    return;
  }
  const std::filesystem::path place = exists ? next_folder(target) : target;
  std::error_code error;
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
  return std::filesystem::is_directory(weights) ? weights : std::filesystem::absolute(weights).parent_path();
}

/// Calls fill(fresh) with a new folder beside `folder`, and gives it the place of `folder`, which may exist,
/// in one step. When anything throws, what was there before stays and the new folder is removed. Throws Error
/// when the folder cannot be made.
template <class Fill>
void write_checkpoint(const std::filesystem::path& folder, const Fill& fill) {
  const std::filesystem::path target = checkpoint_place(folder), fresh = part_folder(folder);
  std::error_code error;
  std::filesystem::remove_all(fresh, error);
  std::filesystem::create_directories(fresh, error);
  if (error) throw Error("cannot create " + fresh.string() + ": " + error.message());
  try {
    fill(fresh);
    replace_checkpoint(fresh, target);
  } catch (...) {
    std::filesystem::remove_all(fresh, error);  // on a full disk others wait for the room
    throw;
  }
}

/// The JSON object in a file. Throws Error when the file cannot be read or holds something else.
inline Json read_json_object(const std::filesystem::path& path) {
  std::ifstream in(path);
  if (!in) throw Error("cannot read " + path.string() + ": " + std::strerror(errno));
  Json json;
  try {
    json = parse_json(in);
  } catch (const std::ios_base::failure& error) {  // of a folder, or a disk that fails
    throw Error("cannot read " + path.string() + ": " + error.code().message());
  }
  if (!json.is_object()) throw Error(path.string() + " is damaged: it holds no JSON object");
  return json;
}

/// A JSON file of a checkpoint. Throws Error when there is none or it is damaged.
inline Json read_checkpoint_json(const std::filesystem::path& path) {
  if (!std::filesystem::exists(path))
    throw Error("there is no checkpoint to resume from: cannot read " + path.string());
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
