#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <lnfree/core/json.hpp>

#include <lnfree/core/atomic_file.hpp>
#include <lnfree/core/error.hpp>
#include <lnfree/core/excerpt.hpp>
#include <lnfree/core/tensor.hpp>

/// The safetensors format: a 64-bit little-endian header length, a JSON header that names each tensor's
/// dtype, shape and place, then the row-major numbers.
namespace lnfree {

static_assert(std::endian::native == std::endian::little,
              "lnfree reads and writes little-endian files as they are");

/// One tensor of a file.
struct TensorInfo {
  /// As the file has it.
  std::string name;
  std::string dtype;  ///< "F32", "F64", "F16" or "BF16" can be read.
  /// Its sizes.
  std::vector<Index> shape;
  std::uint64_t begin = 0;  ///< First byte, counted from the end of the header.
  /// The byte after its last one.
  std::uint64_t end = 0;

  /// Number of elements.
  Index size() const {
    Index size = 1;
    for (const Index extent : shape) size *= extent;
    return size;
  }
};

/// "[768, 2304]".
inline std::string shape_text(const std::vector<Index>& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  return excerpt(text + "]");
}

/// A safetensors file open for reading. The header is checked against the file's size before anything is read
/// by it.
class SafetensorsFile {
 public:
  /// Throws Error for a missing, truncated or malformed file.
  static SafetensorsFile open(const std::filesystem::path& path) { return SafetensorsFile(path); }

  SafetensorsFile(SafetensorsFile&& other) noexcept
      : path_(std::move(other.path_)),
        descriptor_(std::exchange(other.descriptor_, -1)),
        data_begin_(other.data_begin_),
        tensors_(std::move(other.tensors_)) {}
  SafetensorsFile& operator=(SafetensorsFile&&) = delete;
  ~SafetensorsFile() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }

  /// The file.
  const std::filesystem::path& path() const { return path_; }
  /// All tensors, in the file's order.
  const std::vector<TensorInfo>& tensors() const { return tensors_; }

  /// The tensor of that name, null when there is none.
  const TensorInfo* find(const std::string& name) const {
    for (const TensorInfo& tensor : tensors_) {
      if (tensor.name == name) return &tensor;
    }
    return nullptr;
  }
  /// Whether it has a tensor of that name.
  bool contains(const std::string& name) const { return find(name) != nullptr; }

  /// Throws Error when the tensor's numbers are of a type that is not read.
  void check_type(const TensorInfo& tensor) const {
    if (element_bytes(tensor.dtype) == 0) {
      throw Error(path_.string() + ", tensor " + excerpt(tensor.name) + ": dtype " + excerpt(tensor.dtype) +
                  " cannot be read, only F32, F64, F16 and BF16");
    }
  }

  /// The numbers of a tensor, converted to float. Throws Error when they are of another type or cannot be
  /// read.
  std::vector<float> read(const TensorInfo& tensor) const {
    check_type(tensor);
    std::vector<float> values(static_cast<std::size_t>(tensor.size()));
    if (tensor.dtype == "F32") {
      read_bytes(data_begin_ + tensor.begin, values.data(), values.size() * sizeof(float));
    } else if (tensor.dtype == "F64") {
      convert<double>(tensor, values, [](double x) { return static_cast<float>(x); });
    } else if (tensor.dtype == "BF16") {
      convert<std::uint16_t>(tensor, values,
                             [](std::uint16_t x) { return std::bit_cast<float>(std::uint32_t{x} << 16); });
    } else {
      convert<std::uint16_t>(tensor, values, half_to_float);
    }
    return values;
  }
  /// The same by name; throws Error when there is none of that name.
  std::vector<float> read(const std::string& name) const {
    const TensorInfo* tensor = find(name);
    if (tensor == nullptr) throw Error(path_.string() + " holds no tensor " + name);
    return read(*tensor);
  }

 private:
  explicit SafetensorsFile(std::filesystem::path path) : path_(std::move(path)) {
    descriptor_ = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor_ < 0) fail();
    try {
      read_header();
    } catch (...) {
      ::close(descriptor_);
      throw;
    }
  }

  void read_header() {
    struct stat status{};
    if (::fstat(descriptor_, &status) != 0) fail();
    if (!S_ISREG(status.st_mode))
      throw Error(path_.string() + " is no file; a .safetensors file was expected");
    const auto file_size = static_cast<std::uint64_t>(status.st_size);
    std::uint64_t header_size = 0;
    if (file_size < sizeof(header_size)) {
      throw Error(path_.string() + " is truncated or no safetensors file: it has only " +
                  std::to_string(file_size) + " bytes");
    }
    read_bytes(0, &header_size, sizeof(header_size));
    data_begin_ = sizeof(header_size) + header_size;
    if (header_size > file_size - sizeof(header_size) || header_size > max_header_bytes) {
      throw Error(path_.string() + " is truncated or no safetensors file: it claims a header of " +
                  std::to_string(header_size) + " bytes in a file of " + std::to_string(file_size));
    }
    std::string text(static_cast<std::size_t>(header_size), '\0');
    read_bytes(sizeof(header_size), text.data(), text.size());
    const auto header = Json::parse(text, nullptr, false);
    if (!header.is_object())
      throw Error(path_.string() + " is no safetensors file: its header is no JSON object");
    for (const auto& [name, entry] : header.items()) {
      if (name != "__metadata__") tensors_.push_back(parse(name, entry, file_size - data_begin_));
    }
  }

  TensorInfo parse(const std::string& name, const Json& entry, std::uint64_t data_size) const {
    TensorInfo tensor;
    tensor.name = name;
    const std::string where = path_.string() + ", tensor " + excerpt(name) + ": ";
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

  /// entry[key], null when it has none.
  static const Json& member(const Json& entry, const char* key) {
    static const Json nothing;
    const auto found = entry.find(key);
    return found == entry.end() ? nothing : *found;
  }

  /// 0 for a type that is not read: a file may hold tensors besides that nobody asks for, such as masks.
  static std::uint64_t element_bytes(const std::string& dtype) {
    if (dtype == "F64") return 8;
    if (dtype == "F32") return 4;
    if (dtype == "F16" || dtype == "BF16") return 2;
    return 0;
  }

  static float half_to_float(std::uint16_t half) {
    const std::uint32_t sign = std::uint32_t{half & 0x8000u} << 16, exponent = (half >> 10) & 31,
                        mantissa = half & 1023;
    if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000u | (mantissa << 13));
    if (exponent == 0) {  // zero or subnormal: mantissa 2^-24
      const float magnitude = static_cast<float>(mantissa) * 5.9604644775390625e-8f;
      return sign != 0 ? -magnitude : magnitude;
    }
    return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
  }

  template <class Stored, class Convert>
  void convert(const TensorInfo& tensor, std::vector<float>& values, Convert to_float) const {
    std::vector<Stored> stored(values.size());
    read_bytes(data_begin_ + tensor.begin, stored.data(), stored.size() * sizeof(Stored));
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = to_float(stored[i]);
  }

  void read_bytes(std::uint64_t offset, void* to, std::size_t bytes) const {
    auto* at = static_cast<char*>(to);
    while (bytes > 0) {
      const ssize_t got = ::pread(descriptor_, at, bytes, static_cast<off_t>(offset));
      if (got < 0) fail();
      if (got == 0) throw Error(path_.string() + " ended while it was read");
      at += got;
      offset += static_cast<std::uint64_t>(got);
      bytes -= static_cast<std::size_t>(got);
    }
  }

  [[noreturn]] void fail() const {
    throw Error("cannot read " + path_.string() + ": " + std::strerror(errno));
  }

  static constexpr std::uint64_t max_header_bytes = 100'000'000;  // the format's own limit

  std::filesystem::path path_;
  int descriptor_ = -1;
  std::uint64_t data_begin_ = 0;
  std::vector<TensorInfo> tensors_;
};

/// A tensor to be written: `data` is asked for its size() numbers when their turn comes, so that a model is
/// never held twice.
struct NamedTensor {
  /// As the file shall have it.
  std::string name;
  /// Its sizes.
  std::vector<Index> shape;
  /// Called for the numbers when they are written.
  std::function<std::vector<float>()> data;
};

/// Writes F32 tensors in the order given. Throws Error when the file cannot be written; then nothing is left
/// of it.
inline void save_safetensors(const std::filesystem::path& path, const std::vector<NamedTensor>& tensors) {
  Json header;
  header["__metadata__"] = {{"format", "pt"}};
  std::uint64_t offset = 0;
  for (const NamedTensor& tensor : tensors) {
    std::uint64_t bytes = sizeof(float);
    for (const Index extent : tensor.shape) bytes *= static_cast<std::uint64_t>(extent);
    header[tensor.name] = {
        {"dtype", "F32"}, {"shape", tensor.shape}, {"data_offsets", {offset, offset + bytes}}};
    offset += bytes;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const std::uint64_t header_size = text.size();

  AtomicFile file(path);
  file.write(&header_size, sizeof(header_size));
  file.write(text.data(), text.size());
  for (const NamedTensor& tensor : tensors) {
    const std::vector<float> values = tensor.data();
    file.write(values.data(), values.size() * sizeof(float));
  }
  file.commit();
}

}  // namespace lnfree
