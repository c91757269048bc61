#pragma once

#include <filesystem>
#include <utility>

#include <lnfree/core/atomic_file.hpp>
#include <lnfree/core/files.hpp>
#include <lnfree/core/json.hpp>

#include "standard_streams.hpp"

/// Where a program's result goes: to the file of --json, or else only to standard output.
class ResultFile {
 public:
  /// Create it before the work whose result it takes: it throws Error at once if the file, whose name may be
  /// empty for none, cannot be written.
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
