#pragma once

#include <filesystem>
#include <string>
#include <system_error>
#include <vector>

#include <lnfree/core/error.hpp>
#include <lnfree/core/excerpt.hpp>
#include <lnfree/core/files.hpp>

namespace lnfree {

/// Creates a folder and its parents. Unless they are kept, the destructor removes those that are new and
/// still empty.
class NewFolder {
 public:
  /// Throws Error if the folder cannot be created.
  explicit NewFolder(const std::filesystem::path& path) {
    const auto fail = [&](const std::string& why) {
      return Error(excerpt(path.native()) + " cannot be created: " + why + ".");
    };
    std::error_code error;
    for (auto above = path; !above.empty() && !std::filesystem::exists(above, error);
         above = above.parent_path()) {
      if (std::filesystem::is_symlink(above, error) && !path_exists(above))
        throw fail(excerpt(above.native()) + " is a link to nothing");
      new_.push_back(above);
    }
    std::filesystem::create_directories(path, error);
    if (!error) return;
    remove();
    throw fail(error.message());
  }
  NewFolder(const NewFolder&) = delete;
  NewFolder& operator=(const NewFolder&) = delete;
  ~NewFolder() { remove(); }

  /// Keeps the folders.
  void keep() { new_.clear(); }

 private:
  void remove() {
    std::error_code not_empty;
    for (const auto& path : new_) std::filesystem::remove(path, not_empty);
  }

  std::vector<std::filesystem::path> new_;  // the innermost first
};

}  // namespace lnfree
