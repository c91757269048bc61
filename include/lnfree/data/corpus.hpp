#pragma once

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <lnfree/core/error.hpp>
#include <lnfree/core/excerpt.hpp>
#include <lnfree/core/json.hpp>
#include <lnfree/core/utf8.hpp>
#include <lnfree/data/content_hash.hpp>
#include <lnfree/data/input_file.hpp>
#include <lnfree/data/json_line.hpp>

namespace lnfree {

/// Which documents of the inputs belong to the corpus, and to which split.
struct CorpusOptions {
  std::vector<std::filesystem::path> inputs;           ///< Folders of *.py files, or files of JSON lines.
  std::vector<std::filesystem::path> held_out_inputs;  ///< Likewise; all their documents are held out.
  double held_out = 0.03;                              ///< Share of the documents of `inputs` to hold out.
  std::uint64_t seed = 0;              ///< Chooses the held-out documents, together with their content.
  std::int64_t min_bytes = 100;        ///< Shorter documents are dropped.
  std::int64_t max_bytes = 1'000'000;  ///< Longer documents are dropped.
  /// Whether to count and drop what cannot be read, is not UTF-8 or not JSON, instead of throwing.
  bool skip_invalid = false;
  /// The field of a JSON line that holds the document; empty: "content" or, if that is missing, "text".
  std::string field;
};

/// How many documents of a corpus were kept, and why others were not.
struct CorpusCounts {
  /// Documents by outcome.
  std::int64_t seen = 0, kept = 0, duplicates = 0, too_small = 0, too_large = 0, invalid = 0;
  std::int64_t unreadable = 0;   ///< Files and folders that cannot be read, or not completely.
  std::int64_t links = 0;        ///< Links in the folders; they are not followed.
  std::int64_t other_files = 0;  ///< Files in the folders that are not named *.py.
  /// Kept documents of each split.
  std::int64_t train = 0, held_out = 0;
  /// Their bytes.
  std::int64_t train_bytes = 0, held_out_bytes = 0;
  /// What is wrong with the first invalid or unreadable document; empty if there is none.
  std::string first_fault = {};

  /// The same as an object.
  Json json() const {
    Json json{{"seen", seen},
              {"kept", kept},
              {"duplicates", duplicates},
              {"too_small", too_small},
              {"too_large", too_large},
              {"invalid", invalid},
              {"unreadable", unreadable},
              {"links", links},
              {"other_files", other_files},
              {"train", train},
              {"held_out", held_out},
              {"train_bytes", train_bytes},
              {"held_out_bytes", held_out_bytes}};
    if (!first_fault.empty()) json["first_fault"] = first_fault;
    return json;
  }
};

/// One document of a corpus, valid while it is visited.
struct Document {
  std::string name;              ///< The file, or "file:line" of JSON lines with its repository and path.
  std::string_view content;      ///< Its text in UTF-8.
  ContentHash hash;              ///< Hash of its content.
  bool held_out = false;         ///< Whether it is held out for evaluation.
  std::int64_t input_bytes = 0;  ///< Bytes of the inputs read so far, this document included: for progress.
};

/// Source code or other text as documents: the *.py files of folders and their subfolders, or the lines of
/// files with a JSON object on each, compressed or not. Links within a folder are not followed: their target
/// is either in the folder anyway or does not belong to it. Documents can be visited any number of times, one
/// after the other. They are read on all cores, and only a few megabytes are in memory at a time.
class Corpus {
 public:
  /// Throws Error if there are no inputs, if one is missing or neither a folder nor a file of JSON lines, or
  /// if a subfolder cannot be read (see skip_invalid).
  explicit Corpus(CorpusOptions options) : options_(std::move(options)) {
    if (options_.inputs.empty()) throw Error("no corpus was given.");
    if (!(options_.held_out >= 0 && options_.held_out < 1))
      throw Error("the held-out fraction must be at least 0 and below 1.");
    for (const auto* inputs : {&options_.held_out_inputs, &options_.inputs})
      for (const auto& input : *inputs) list(input);
  }

  /// Files of all inputs: *.py files and files of JSON lines.
  std::int64_t input_files() const { return input_files_; }

  /// Bytes of all inputs on disk, the final value of Document::input_bytes.
  std::int64_t input_bytes() const { return input_bytes_; }

  /// Calls visitor(const Document&) for every document that belongs to the corpus, always in the same order:
  /// held-out inputs first, folders by relative path, JSON lines in file order. Of identical documents only
  /// the first is kept, so none is in both splits. Throws Error for a document that cannot be read, is not
  /// UTF-8 or not JSON (see skip_invalid), and if no document is left.
  template <class Visitor>
  CorpusCounts visit(Visitor&& visitor) const {
    Pass<Visitor> pass(*this, visitor);
    for (const auto& source : sources_) source.lines ? read_lines(source, pass) : read_folder(source, pass);
    pass.flush();
    const auto& counts = pass.counts;
    if (counts.seen == 0)
      throw Error("the corpus is empty: no *.py file and no line of JSON in " + names() + left_out() + ".");
    if (counts.kept == 0)
      throw Error("none of the " + std::to_string(counts.seen) + " documents in " + names() +
                  " can be used: " + std::to_string(counts.too_small) + " are under " +
                  std::to_string(options_.min_bytes) + " bytes, " + std::to_string(counts.too_large) +
                  " over " + std::to_string(options_.max_bytes) + ", " + std::to_string(counts.invalid) +
                  " are not text in UTF-8, " + std::to_string(counts.unreadable) + " may not be read.");
    return counts;
  }

 private:
  struct Source {
    std::filesystem::path path;
    bool lines = false;              // a file of JSON lines; a folder otherwise
    bool held_out = false;           // as a whole
    std::vector<std::string> files;  // of a folder, relative, sorted
  };

  // A document between the disk and the visitor.
  struct Item {
    std::string name;
    std::string content;  // until take(), possibly a JSON line
    bool is_line = false;
    bool held_out = false;
    std::int64_t input_bytes = 0;  // see Document
    std::string fault;             // why it cannot be used
    bool outsized = false;
    ContentHash hash;
  };

  // One pass over all inputs. Documents are read in order, checked in parallel, some megabytes at a time, and
  // counted and passed on in order.
  template <class Visitor>
  class Pass {
   public:
    Pass(const Corpus& corpus, Visitor& visitor)
        : corpus_(corpus), visitor_(visitor), counts(corpus.left_out_) {}

    void add(Item item) {
      bytes_ += item.content.size();
      items_.push_back(std::move(item));
      if (bytes_ >= batch_bytes) flush();
    }

    void flush() {
#pragma omp parallel for schedule(dynamic)
      for (std::size_t i = 0; i < items_.size(); ++i) corpus_.check_document(items_[i]);
      for (auto& item : items_) pass_on(item);
      items_.clear();
      bytes_ = 0;
    }

    // Handles a file or folder that cannot be read, or not completely.
    void unreadable(const std::string& sentence) {
      flush();
      refuse(sentence);
      ++counts.unreadable;
    }

   private:
    void refuse(const std::string& sentence) {
      corpus_.refuse(sentence);
      if (counts.first_fault.empty()) counts.first_fault = sentence;
    }

    void pass_on(Item& item) {
      ++counts.seen;
      const auto size = static_cast<std::int64_t>(item.content.size());
      if (item.outsized)
        return void(++(size < corpus_.options_.min_bytes ? counts.too_small : counts.too_large));
      if (!item.fault.empty()) {
        refuse(item.name + " " + item.fault);
        return void(++counts.invalid);
      }
      if (!known_.insert(item.hash)) return void(++counts.duplicates);
      const bool held_out =
          item.held_out || item.hash.uniform(corpus_.options_.seed) < corpus_.options_.held_out;
      ++counts.kept;
      ++(held_out ? counts.held_out : counts.train);
      (held_out ? counts.held_out_bytes : counts.train_bytes) += size;
      visitor_(Document{std::move(item.name), item.content, item.hash, held_out, item.input_bytes});
    }

    static constexpr std::size_t batch_bytes = 8 << 20;

    const Corpus& corpus_;
    Visitor& visitor_;
    std::vector<Item> items_;
    std::size_t bytes_ = 0;  // of the items
    ContentHashSet known_;

   public:
    CorpusCounts counts;
    std::int64_t input_bytes = 0;
  };

  // Extracts the document from a JSON line, and checks whether it can be used. Runs on several threads.
  void check_document(Item& item) const {
    if (item.is_line) {
      if (const auto offset = find_invalid_utf8(item.content))
        return void(item.fault = "is not UTF-8 at byte offset " + std::to_string(*offset) + " of the line");
      JsonLine line(item.content, options_.field);
      if (!line.fault().empty()) return void(item.fault = line.fault());
      item.name += line.origin();
      item.content = line.take_document();
    }
    const auto size = static_cast<std::int64_t>(item.content.size());
    item.outsized = size < options_.min_bytes || size > options_.max_bytes;
    if (item.outsized) return;
    if (const auto offset = item.is_line ? std::nullopt : find_invalid_utf8(item.content))
      return void(item.fault = "is not UTF-8 at byte offset " + std::to_string(*offset));
    item.hash = ContentHash::of(item.content);
  }

  // Throws Error for an unusable document or file, unless such are skipped.
  void refuse(const std::string& sentence) const {
    if (!options_.skip_invalid)
      throw Error(sentence + "; fix or remove it, or skip such documents with --skip-invalid.");
  }

  // Whether a file holds JSON lines, by its name: .jsonl or .json, compressed or not, or anything compressed.
  static bool holds_lines(std::filesystem::path name) {
    const auto extension = name.extension();
    return extension == ".gz" || extension == ".zst" || extension == ".jsonl" || extension == ".json";
  }

  void list(const std::filesystem::path& input) {
    namespace fs = std::filesystem;
    Source source{input, false, sources_.size() < options_.held_out_inputs.size(), {}};
    try {
      if (!fs::exists(input)) throw Error("the corpus " + excerpt(input.native()) + " does not exist.");
      if (fs::is_directory(input)) {
        list_folder(input, source);
        std::sort(source.files.begin(), source.files.end());
      } else if (fs::is_regular_file(input) && holds_lines(input)) {
        source.lines = true;
        ++input_files_;
        input_bytes_ += static_cast<std::int64_t>(fs::file_size(input));
      } else {
        throw Error("the corpus " + excerpt(input.native()) +
                    " is neither a folder of *.py files nor a file of JSON lines (.jsonl or .json, plain or "
                    "compressed as .gz or .zst).");
      }
    } catch (const fs::filesystem_error& error) {
      throw Error("the corpus " + excerpt(input.native()) + " cannot be read: " + error.code().message() +
                  ".");
    }
    sources_.push_back(std::move(source));
  }

  void list_folder(const std::filesystem::path& folder, Source& source) {
    std::error_code error;
    for (std::filesystem::directory_iterator entry(folder, error), end; !error && entry != end;
         entry.increment(error)) {
      const auto& path = entry->path();
      if (entry->is_symlink()) {
        ++left_out_.links;
      } else if (entry->is_directory()) {
        list_folder(path, source);
      } else if (!entry->is_regular_file() || path.extension() != ".py") {
        ++left_out_.other_files;
      } else {
        source.files.push_back(path.lexically_relative(source.path).generic_string());
        ++input_files_;
        input_bytes_ += static_cast<std::int64_t>(entry->file_size());
      }
    }
    if (!error) return;
    const std::string fault =
        "the folder " + excerpt(folder.native()) + " cannot be read: " + error.message();
    refuse(fault);
    ++left_out_.unreadable;
    if (left_out_.first_fault.empty()) left_out_.first_fault = fault;
  }

  // What the inputs contain besides documents, for the message that there are none.
  std::string left_out() const {
    std::string text;
    const auto add = [&](const std::string& what, std::int64_t count) {
      if (count > 0) text += (text.empty() ? "" : ", ") + what + ": " + std::to_string(count);
    };
    add("links (not followed; give their targets)", left_out_.links);
    add("files of other names", left_out_.other_files);
    add("unreadable folders", left_out_.unreadable);
    return text.empty() ? "" : " (left out: " + text + ")";
  }

  template <class Visitor>
  void read_folder(const Source& source, Pass<Visitor>& pass) const {
    struct Close {
      void operator()(std::FILE* file) const { std::fclose(file); }
    };
    // One byte more than the maximum shows that a file is too large, without reading all of it.
    std::vector<char> buffer(static_cast<std::size_t>(options_.max_bytes) + 1);
    for (const auto& relative : source.files) {
      const auto path = source.path / relative;
      const std::unique_ptr<std::FILE, Close> file(std::fopen(path.c_str(), "rbe"));
      const std::size_t size = file ? std::fread(buffer.data(), 1, buffer.size(), file.get()) : 0;
      if (!file || std::ferror(file.get())) {
        const int error = errno;
        pass.unreadable(excerpt(path.native()) + " cannot be read: " + std::strerror(error));
        ++pass.counts.seen;
        continue;
      }
      pass.input_bytes += static_cast<std::int64_t>(size);
      Item item;
      item.name = excerpt(path.native());
      item.content.assign(buffer.data(), size);
      item.held_out = source.held_out;
      item.input_bytes = pass.input_bytes;
      pass.add(std::move(item));
    }
  }

  template <class Visitor>
  void read_lines(const Source& source, Pass<Visitor>& pass) const {
    const std::int64_t before = pass.input_bytes;
    std::string buffer;  // starts with the current line
    std::size_t begin = 0;
    std::int64_t number = 1;
    const auto line_name = [&] { return excerpt(source.path.native()) + ":" + std::to_string(number); };
    try {
      InputFile file(source.path);
      for (bool end_of_file = false;; ++number) {
        std::size_t searched = begin, end;
        while ((end = buffer.find('\n', searched)) == std::string::npos && !end_of_file) {
          buffer.erase(0, begin);
          begin = 0;
          searched = buffer.size();
          if (searched > max_line_bytes)
            throw Error(line_name() + " is longer than " + std::to_string(max_line_bytes) +
                        " bytes; one JSON object per line was expected.");
          buffer.resize(searched + block_bytes);
          const std::size_t read = file.read(buffer.data() + searched, block_bytes);
          buffer.resize(searched + read);
          end_of_file = read == 0;
        }
        const bool last = end == std::string::npos;
        std::string_view line(buffer.data() + begin, (last ? buffer.size() : end) - begin);
        pass.input_bytes = before + file.consumed();
        if (number == 1 && line.starts_with(byte_order_mark)) line.remove_prefix(byte_order_mark.size());
        if (line.find_first_not_of(" \t\r") != std::string_view::npos) {
          Item item;
          item.name = line_name();
          item.content = line;
          item.is_line = true;
          item.held_out = source.held_out;
          item.input_bytes = pass.input_bytes;
          pass.add(std::move(item));
        }
        if (last) return;
        begin = end + 1;
      }
    } catch (const InputFile::Fault& fault) {
      pass.unreadable((number == 1 ? excerpt(source.path.native()) : line_name()) + " " + fault.what());
    }
  }

  std::string names() const {
    std::string list;
    for (const auto& source : sources_) list += (list.empty() ? "" : ", ") + source.path.native();
    return excerpt(list);
  }

  static constexpr std::string_view byte_order_mark = "\xEF\xBB\xBF";
  static constexpr std::size_t block_bytes = 1 << 20;
  static constexpr std::size_t max_line_bytes = 64 << 20;

  CorpusOptions options_;
  std::vector<Source> sources_;
  std::int64_t input_files_ = 0, input_bytes_ = 0;
  CorpusCounts left_out_;  // counted in the folders, before any document is read
};

}  // namespace lnfree
