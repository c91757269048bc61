#pragma once

#include <filesystem>
#include <utility>

#include <lnfree/core/atomic_file.hpp>
#include <lnfree/core/files.hpp>
#include <lnfree/core/json.hpp>

#include "standard_streams.hpp"

/// Where a program's result goes: to standard output, and to the file of --json if one is given.
class ResultFile {
 public:
  /// An empty path means that there is no file. Throws Error if the file cannot be written; create it before
  /// the work begins, so that the user learns this at once.
  explicit ResultFile(std::filesystem::path path) : path_(std::move(path)) {
    // The reader of a FIFO would take the attempt for the end of the result.
    if (!path_.empty() && lnfree::type_of(path_) != std::filesystem::file_type::fifo)
      lnfree::AtomicFile{path_};
  }

  /// Writes the result. Without a file, throws Error unless all that was printed has arrived.
  void write(const lnfree::Json& result) const {
    if (path_.empty()) return require_standard_output();
    lnfree::write_file(path_, result.dump(2) + "\n");
  }

 private:
  std::filesystem::path path_;
};
