#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

#include <lnfree/core/excerpt.hpp>
#include <lnfree/core/json.hpp>

namespace lnfree {

/// A line of a corpus: a JSON object that has a document in one of its fields.
class JsonLine {
 public:
  /// Reads a line in UTF-8. The document is in `field` or, if that is empty, in "content" or, if the line has
  /// none, in "text".
  JsonLine(std::string_view line, const std::string& field) {
    Reader reader(field);
    Json::sax_parse(line, &reader);
    if (!reader.fault.empty()) {
      fault_ = "is not JSON (" + reader.fault + ")";
    } else if (!reader.is_object || !(reader.has_document || reader.has_fallback)) {
      fault_ = "is not a JSON object with the document in a string " +
               (field.empty() ? std::string("\"content\" or \"text\"") : '"' + excerpt(field) + '"');
    } else {
      document_ = std::move(reader.has_document ? reader.document : reader.fallback);
      for (const std::string* part : {&reader.repository, &reader.path})
        if (!part->empty()) origin_ += " " + excerpt(*part);
    }
  }

  /// What is wrong with the line, empty if nothing is.
  const std::string& fault() const { return fault_; }

  /// Its repository and path as in CodeParrot's data, " repository path", or empty.
  const std::string& origin() const { return origin_; }

  /// Moves the document out.
  std::string take_document() { return std::move(document_); }

 private:
  // Keeps the relevant strings of the outermost object and builds nothing else.
  struct Reader : nlohmann::json_sax<Json> {
    explicit Reader(const std::string& name)
        : field(name.empty() ? "content" : name), falls_back(name.empty()) {}

    bool null() override { return other(); }
    bool boolean(bool) override { return other(); }
    bool number_integer(number_integer_t) override { return other(); }
    bool number_unsigned(number_unsigned_t) override { return other(); }
    bool number_float(number_float_t, const string_t&) override { return other(); }
    bool binary(binary_t&) override { return other(); }

    bool string(string_t& value) override {
      if (place == nullptr) return true;
      if (has != nullptr) *has = true;
      *place = std::move(value);
      place = nullptr;
      return true;
    }

    bool key(string_t& name) override {
      place = nullptr;
      has = nullptr;
      if (depth != 1) return true;
      if (name == field) {
        place = &document;
        has = &has_document;
      } else if (falls_back && name == "text") {
        place = &fallback;
        has = &has_fallback;
      } else if (name == "repo_name") {
        place = &repository;
      } else if (name == "path") {
        place = &path;
      }
      if (has != nullptr) *has = false;  // of two fields with the same name the last one is used
      return true;
    }

    bool start_object(std::size_t) override {
      if (depth == 0) is_object = true;
      ++depth;
      return other();
    }
    bool start_array(std::size_t) override {
      ++depth;
      return other();
    }
    bool end_object() override {
      --depth;
      return true;
    }
    bool end_array() override {
      --depth;
      return true;
    }

    bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception& error) override {
      fault = excerpt(error.what());
      return false;
    }

    // A value that is not a string cannot be the document.
    bool other() {
      place = nullptr;
      return true;
    }

    std::string field;
    bool falls_back;
    std::string document, fallback, repository, path, fault;
    bool has_document = false, has_fallback = false, is_object = false;
    std::string* place = nullptr;  // where the next value goes
    bool* has = nullptr;
    int depth = 0;
  };

  std::string fault_, origin_, document_;
};

}  // namespace lnfree
