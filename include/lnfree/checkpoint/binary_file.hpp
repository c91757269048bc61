#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <lnfree/core/atomic_file.hpp>
#include <lnfree/core/bfloat16.hpp>
#include <lnfree/core/error.hpp>
#include <lnfree/core/tensor.hpp>

/// Numbers in files, whatever the type they are stored in.
namespace lnfree {

static_assert(std::endian::native == std::endian::little,
              "lnfree reads and writes little-endian files as they are");

/// Bytes of a number stored as "F64", "F32", "F16" or "BF16"; 0 for a type that is not read.
constexpr std::uint64_t element_bytes(std::string_view dtype) {
  if (dtype == "F64") return 8;
  if (dtype == "F32") return 4;
  if (dtype == "F16" || dtype == "BF16") return 2;
  return 0;
}

/// An IEEE half-precision number.
inline float half_to_float(std::uint16_t half) {
  const std::uint32_t sign = std::uint32_t{half & 0x8000u} << 16, exponent = (half >> 10) & 31,
                      mantissa = half & 1023;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000u | (mantissa << 13));
  if (exponent == 0) {  // zero or subnormal: mantissa 2^-24
    const float magnitude = static_cast<float>(mantissa) * 5.9604644775390625e-8f;
    return sign != 0 ? -magnitude : magnitude;
  }
  return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
}

/// A file that is read at any place.
class BinaryFile {
 public:
  /// Throws Error for what cannot be opened and what is not a file; `kind` says what was expected.
  BinaryFile(std::filesystem::path path, const std::string& kind) : path_(std::move(path)) {
    descriptor_ = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor_ < 0) fail();
    struct stat status{};
    const int failed = ::fstat(descriptor_, &status);
    if (failed == 0 && S_ISREG(status.st_mode)) {
      size_ = static_cast<std::uint64_t>(status.st_size);
      return;
    }
    const int error = errno;
    ::close(descriptor_);
    errno = error;
    if (failed != 0) fail();
    throw Error(path_.string() + " is not a file; " + kind + " was expected");
  }

  BinaryFile(BinaryFile&& other) noexcept
      : path_(std::move(other.path_)),
        descriptor_(std::exchange(other.descriptor_, -1)),
        size_(other.size_) {}
  BinaryFile& operator=(BinaryFile&&) = delete;
  ~BinaryFile() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }

  /// The file.
  const std::filesystem::path& path() const { return path_; }
  /// Bytes in it.
  std::uint64_t size() const { return size_; }

  /// Throws Error when the bytes cannot be read.
  void read(std::uint64_t offset, void* to, std::size_t bytes) const {
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

  /// `count` numbers of a type that element_bytes() knows, as float.
  std::vector<float> read_numbers(std::uint64_t offset, std::size_t count, std::string_view dtype) const {
    std::vector<float> values(count);
    if (dtype == "F32") {
      read(offset, values.data(), count * sizeof(float));
    } else if (dtype == "F64") {
      convert<double>(offset, values, [](double x) { return static_cast<float>(x); });
    } else if (dtype == "BF16") {
      convert<std::uint16_t>(offset, values,
                             [](std::uint16_t x) { return std::bit_cast<float>(std::uint32_t{x} << 16); });
    } else {
      convert<std::uint16_t>(offset, values, half_to_float);
    }
    return values;
  }

 private:
  template <class Stored, class Convert>
  void convert(std::uint64_t offset, std::vector<float>& values, Convert to_float) const {
    std::vector<Stored> stored(values.size());
    read(offset, stored.data(), stored.size() * sizeof(Stored));
    std::transform(stored.begin(), stored.end(), values.begin(), to_float);
  }

  [[noreturn]] void fail() const {
    throw Error("cannot read " + path_.string() + ": " + std::strerror(errno));
  }

  std::filesystem::path path_;
  int descriptor_ = -1;
  std::uint64_t size_ = 0;
};

/// The transpose of (rows, columns).
inline std::vector<float> transposed(const std::vector<float>& values, Index rows, Index columns) {
  std::vector<float> result(values.size());
  for (Index i = 0; i < rows; ++i) {
    for (Index j = 0; j < columns; ++j)
      result[static_cast<std::size_t>(j * rows + i)] = values[static_cast<std::size_t>(i * columns + j)];
  }
  return result;
}

/// Writes numbers as "F32", or rounded to nearest as "BF16".
inline void write_numbers(AtomicFile& file, const std::vector<float>& values, std::string_view dtype) {
  if (dtype == "F32") return file.write(values.data(), values.size() * sizeof(float));
  const std::vector<BFloat16> rounded(values.begin(), values.end());
  file.write(rounded.data(), rounded.size() * sizeof(BFloat16));
}

}  // namespace lnfree
