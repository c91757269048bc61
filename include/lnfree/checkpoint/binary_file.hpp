#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include <lnfree/core/atomic_file.hpp>
#include <lnfree/core/bfloat16.hpp>
#include <lnfree/core/files.hpp>
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

/// A file of numbers that is read at any place.
class BinaryFile : public FileReader {
 public:
  using FileReader::FileReader;

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
