#pragma once

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include <lnfree/core/error.hpp>

#include "options.hpp"

namespace prepare_corpus {

/// Whether a name is that of a numbered shard or its description: train_000001.bin, val_000002.json.
inline bool is_numbered(std::string_view name) {
  for (const std::string_view split : {"train_", "val_"})
    if (name.starts_with(split)) {
      name.remove_prefix(split.size());
      return name.size() > 6 && name.find_first_not_of("0123456789") == 6 &&
             (name.substr(6) == ".bin" || name.substr(6) == ".json");
    }
  return false;
}

/// Whether a prepared folder may have a file of that name besides corpus.json.
inline bool is_output(std::string_view name) {
  constexpr std::string_view fixed[] = {"train.bin", "train.json",      "val.bin",
                                        "val.json",  "tokenizer.model", "tokenizer.json"};
  return is_numbered(name) || std::find(std::begin(fixed), std::end(fixed), name) != std::end(fixed);
}

/// The names of the files in a folder that a prepared one may have besides corpus.json, in order.
inline std::vector<std::string> output_files(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (is_output(name)) names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

/// Removes the temporaries of numbered shards that a killed run has left, except those of `kept`.
inline void remove_temporaries(const fs::path& folder, const std::vector<std::string>& kept) {
  std::vector<fs::path> unused;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(".") || !name.ends_with(".tmp")) continue;
    const std::string shard = name.substr(1, name.size() - 5);
    if (is_numbered(shard) && std::find(kept.begin(), kept.end(), shard) == kept.end())
      unused.push_back(entry.path());
  }
  for (const fs::path& path : unused) fs::remove(path);
}

}  // namespace prepare_corpus
