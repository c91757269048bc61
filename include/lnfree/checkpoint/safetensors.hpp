#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include <lnfree/checkpoint/binary_file.hpp>
#include <lnfree/core/atomic_file.hpp>
#include <lnfree/core/error.hpp>
#include <lnfree/core/excerpt.hpp>
#include <lnfree/core/json.hpp>
#include <lnfree/core/tensor.hpp>

/// The safetensors format: the length of the header as a 64-bit little-endian number, a header in JSON with
/// the dtype, shape and position of each tensor, and then the row-major numbers.
namespace lnfree {

/// Numbers in a tensor of that shape.
inline Index size_of(const std::vector<Index>& shape) {
  Index size = 1;
  for (const Index extent : shape) size *= extent;
  return size;
}

/// One tensor of a file.
struct TensorInfo {
  std::string name;          ///< Its name in the file.
  std::string dtype;         ///< Its type; "F32", "F64", "F16" and "BF16" can be read.
  std::vector<Index> shape;  ///< Its sizes.
  std::uint64_t begin = 0;   ///< Its first byte, counted from the end of the header.
  std::uint64_t end = 0;     ///< The byte after its last one.

  /// Number of elements.
  Index size() const { return size_of(shape); }
};

/// "[768, 2304]".
inline std::string shape_text(const std::vector<Index>& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  return excerpt(text + "]");
}

/// A safetensors file open for reading. Its header is checked against the size of the file before any tensor
/// is read.
class SafetensorsFile {
 public:
  /// Throws Error for a missing, truncated or malformed file.
  static SafetensorsFile open(const std::filesystem::path& path) { return SafetensorsFile(path); }

  /// The file.
  const std::filesystem::path& path() const { return file_.path(); }
  /// All tensors, in the order of the file.
  const std::vector<TensorInfo>& tensors() const { return tensors_; }

  /// The tensor of that name, null if there is none.
  const TensorInfo* find(const std::string& name) const {
    for (const TensorInfo& tensor : tensors_) {
      if (tensor.name == name) return &tensor;
    }
    return nullptr;
  }
  /// Whether it has a tensor of that name.
  bool contains(const std::string& name) const { return find(name) != nullptr; }

  /// Throws Error if the tensor's numbers are of a type that is not read.
  void check_type(const TensorInfo& tensor) const {
    if (element_bytes(tensor.dtype) == 0) {
      throw Error(path().string() + ", tensor " + excerpt(tensor.name) + ": dtype " + excerpt(tensor.dtype) +
                  " cannot be read, only F32, F64, F16 and BF16");
    }
  }

  /// The numbers of a tensor, converted to float. Throws Error if they are of another type or cannot be
  /// read.
  std::vector<float> read(const TensorInfo& tensor) const {
    check_type(tensor);
    return file_.read_numbers(data_begin_ + tensor.begin, static_cast<std::size_t>(tensor.size()),
                              tensor.dtype);
  }
  /// The same by name; throws Error if there is none.
  std::vector<float> read(const std::string& name) const {
    const TensorInfo* tensor = find(name);
    if (tensor == nullptr) throw Error(path().string() + " holds no tensor " + name);
    return read(*tensor);
  }

 private:
  explicit SafetensorsFile(const std::filesystem::path& of) : file_(of, "a .safetensors file") {
    const std::uint64_t file_size = file_.size();
    std::uint64_t header_size = 0;
    if (file_size < sizeof(header_size)) {
      throw Error(path().string() + " is truncated or not a safetensors file: it has only " +
                  std::to_string(file_size) + " bytes");
    }
    file_.read(0, &header_size, sizeof(header_size));
    data_begin_ = sizeof(header_size) + header_size;
    if (header_size > file_size - sizeof(header_size) || header_size > max_header_bytes) {
      throw Error(path().string() + " is truncated or not a safetensors file: it claims a header of " +
                  std::to_string(header_size) + " bytes in a file of " + std::to_string(file_size));
    }
    std::string text(static_cast<std::size_t>(header_size), '\0');
    file_.read(sizeof(header_size), text.data(), text.size());
    const auto header = parse_json(text);
    if (!header.is_object())
      throw Error(path().string() + " is not a safetensors file: its header is not a JSON object");
    for (const auto& [name, entry] : header.items()) {
      if (name != "__metadata__") tensors_.push_back(parse(name, entry, file_size - data_begin_));
    }
    check_overlaps();
  }

  /// Throws Error if two tensors overlap: all tensors together then take no more memory than the file.
  void check_overlaps() const {
    std::vector<const TensorInfo*> in_place;
    for (const TensorInfo& tensor : tensors_) {
      if (tensor.begin < tensor.end) in_place.push_back(&tensor);
    }
    std::sort(in_place.begin(), in_place.end(),
              [](const TensorInfo* a, const TensorInfo* b) { return a->begin < b->begin; });
    for (std::size_t i = 1; i < in_place.size(); ++i) {
      if (in_place[i]->begin < in_place[i - 1]->end) {
        throw Error(path().string() + " is damaged: its tensors " + excerpt(in_place[i - 1]->name) + " and " +
                    excerpt(in_place[i]->name) + " overlap");
      }
    }
  }

  TensorInfo parse(const std::string& name, const Json& entry, std::uint64_t data_size) const {
    TensorInfo tensor;
    tensor.name = name;
    const std::string where = path().string() + ", tensor " + excerpt(name) + ": ";
    const auto counts = [](const Json& list) {
      return list.is_array() &&
             std::all_of(list.begin(), list.end(), [](const Json& x) { return x.is_number_unsigned(); });
    };
    const Json &dtype = member(entry, "dtype"), &shape = member(entry, "shape"),
               &offsets = member(entry, "data_offsets");
    if (!dtype.is_string() || !counts(shape) || !counts(offsets) || offsets.size() != 2)
      throw Error(where + "the header must give dtype, shape and two data_offsets");
    tensor.dtype = dtype.get<std::string>();
    tensor.begin = offsets[0].get<std::uint64_t>();
    tensor.end = offsets[1].get<std::uint64_t>();
    for (const Json& extent : shape) tensor.shape.push_back(extent.get<Index>());
    const std::uint64_t element = element_bytes(tensor.dtype);
    std::uint64_t bytes = std::max<std::uint64_t>(1, element);
    for (const Index extent : tensor.shape) {
      const auto count = static_cast<std::uint64_t>(extent);
      if (extent < 0 || (count > 0 && bytes > std::numeric_limits<std::uint64_t>::max() / 2 / count)) {
        throw Error(where + "impossible shape " + shape_text(tensor.shape));
      }
      bytes *= count;
    }
    if (tensor.end < tensor.begin || (element > 0 && tensor.end - tensor.begin != bytes)) {
      throw Error(where + "shape " + shape_text(tensor.shape) + " needs " + std::to_string(bytes) +
                  " bytes, but data_offsets are [" + std::to_string(tensor.begin) + ", " +
                  std::to_string(tensor.end) + "]");
    }
    if (tensor.end > data_size) {
      throw Error(where + "the header claims bytes up to " + std::to_string(tensor.end) +
                  ", but the file holds " + std::to_string(data_size) + " after its header: it is truncated");
    }
    return tensor;
  }

  /// entry[key], null if it has none.
  static const Json& member(const Json& entry, const char* key) {
    static const Json nothing;
    const auto found = entry.find(key);
    return found == entry.end() ? nothing : *found;
  }

  static constexpr std::uint64_t max_header_bytes = 100'000'000;  // the format's own limit

  BinaryFile file_;
  std::uint64_t data_begin_ = 0;
  std::vector<TensorInfo> tensors_;
};

/// A tensor to be written. Its numbers are computed when they are written, so that a model is never in memory
/// twice.
struct NamedTensor {
  std::string name;                          ///< Its name in the file.
  std::vector<Index> shape;                  ///< Its sizes.
  std::function<std::vector<float>()> data;  ///< Returns its size() numbers.

  /// Number of elements.
  Index size() const { return size_of(shape); }
};

/// Writes tensors in the given order, as "F32" or rounded to "BF16". Throws Error if the file cannot be
/// written, and leaves nothing behind.
inline void save_safetensors(const std::filesystem::path& path, const std::vector<NamedTensor>& tensors,
                             const std::string& dtype = "F32") {
  Json header;
  header["__metadata__"] = {{"format", "pt"}};
  std::uint64_t offset = 0;
  for (const NamedTensor& tensor : tensors) {
    const std::uint64_t bytes = static_cast<std::uint64_t>(tensor.size()) * element_bytes(dtype);
    header[tensor.name] = {
        {"dtype", dtype}, {"shape", tensor.shape}, {"data_offsets", {offset, offset + bytes}}};
    offset += bytes;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const std::uint64_t header_size = text.size();

  AtomicFile file(path);
  file.write(&header_size, sizeof(header_size));
  file.write(text.data(), text.size());
  for (const NamedTensor& tensor : tensors) write_numbers(file, tensor.data(), dtype);
  file.commit();
}

}  // namespace lnfree
