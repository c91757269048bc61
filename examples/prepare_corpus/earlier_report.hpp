#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <lnfree/core/error.hpp>
#include <lnfree/core/files.hpp>
#include <lnfree/data/corpus.hpp>
#include <lnfree/data/token_shard.hpp>
#include <lnfree/data/tokenizer.hpp>

#include "interrupted_run.hpp"
#include "options.hpp"
#include "output_folder.hpp"

namespace prepare_corpus {

/// A path, or a list of paths, relative to `folder`.
inline json relative_to(const fs::path& folder, json paths) {
  if (paths.is_string()) return fs::path(paths.get<std::string>()).lexically_relative(folder).string();
  if (paths.is_array())
    for (json& path : paths) path = relative_to(folder, path);
  return paths;
}

/// Makes the paths among the arguments relative to `folder`, so that they stay equal when all are moved
/// together.
inline json seen_from(const fs::path& folder, json arguments) {
  for (const char* name : {"inputs", "held_out_inputs", "tokenizer"})
    if (arguments.contains(name)) arguments[name] = relative_to(folder, arguments[name]);
  return arguments;
}

/// The names of the arguments in which two sets differ, with commas between them.
inline std::string differing_names(const json& these, const json& those) {
  std::string names;
  const auto add = [&](const std::string& name) { names += (names.empty() ? "" : ", ") + name; };
  for (const auto& [name, value] : these.items())
    if (those.value(name, json()) != value) add(name);
  for (const auto& [name, value] : those.items())
    if (!these.contains(name)) add(name);
  return names;
}

/// The report of an earlier run into this folder with the same arguments on the same inputs, if there is one.
/// Throws Error if the folder holds something else and may not be overwritten.
inline std::optional<json> earlier_report(const Options& options, const lnfree::Corpus& corpus) {
  if (options.overwrite) return std::nullopt;
  const auto report_file = options.out / "corpus.json";
  const auto here = [&](const fs::path& name) { return lnfree::path_exists(options.out / name); };
  if (!lnfree::path_exists(report_file)) {
    // A run that is killed while renaming its files leaves its note beside them.
    for (const std::string& name : output_files(options.out))
      if (here(name) && !here(note_name))
        throw lnfree::Error(name_of(options.out) + " holds a " + name +
                            " but no corpus.json, so it is not a finished corpus of this program; choose "
                            "another --out or give --overwrite.");
    return std::nullopt;
  }
  json report = lnfree::parse_json(lnfree::read_text(report_file, "a JSON object"));
  if (!report.is_object() || !report["arguments"].is_object() || !report["held_out"].is_object())
    throw lnfree::Error(name_of(report_file) +
                        " was not written by this program; choose another --out or give "
                        "--overwrite.");
  json arguments = options.arguments();
  json recorded = report["arguments"];
  // A given tokenizer is compared by its content, not by its path. Corpora of early versions only have the
  // path.
  if (arguments.contains("tokenizer") && recorded.contains("tokenizer") &&
      report.contains("tokenizer_fingerprint")) {
    if (lnfree::Tokenizer::load(options.tokenizer).fingerprint() == report["tokenizer_fingerprint"]) {
      arguments.erase("tokenizer");
      recorded.erase("tokenizer");
    } else {
      recorded["tokenizer"] = nullptr;
    }
  }
  const bool moved_along =
      report.value("folder", json()).is_string() &&
      seen_from(report["folder"].get<std::string>(), recorded) == seen_from(options.folder(), arguments);
  if (recorded != arguments && !moved_along)
    throw lnfree::Error(name_of(options.out) + " holds a corpus prepared with other arguments (" +
                        differing_names(arguments, recorded) +
                        "); choose another --out or give --overwrite.");
  // Corpora of earlier versions do not have this.
  if (report.contains("inputs") && report["inputs"] != extent(corpus))
    throw lnfree::Error(name_of(options.out) + " holds a corpus made from other contents of the inputs (" +
                        words(report["inputs"]) + " then, " + words(extent(corpus)) +
                        " now); choose another --out or give --overwrite.");
  // Corpora of earlier versions have no list of shards, only one for each split.
  const bool held_out = report["held_out"].value("windows", std::int64_t{0}) > 0;
  const auto tokenizer = report.value("tokenizer", json());
  std::vector<std::string> shards;
  for (const auto& [split, file] : {std::pair("train", "train.bin"), std::pair("held_out", "val.bin")})
    if (split == std::string_view("train") || held_out)
      for (const json& shard : report[split].value("shards", json::array({file})))
        shards.push_back(shard.get<std::string>());
  const bool complete = here(tokenizer == "tokenizer.json" ? "tokenizer.json" : "tokenizer.model") &&
                        std::all_of(shards.begin(), shards.end(), [&](const fs::path& shard) {
                          return here(shard) && here(lnfree::shard_info_path(shard));
                        });
  if (!complete)
    throw lnfree::Error(name_of(options.out) +
                        " lacks files that its corpus.json lists; give --overwrite to "
                        "prepare them again.");
  return report;
}

}  // namespace prepare_corpus
