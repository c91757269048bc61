#pragma once

#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include <lnfree/core/splitmix64.hpp>

namespace lnfree {

/// A 64-bit hash of any bytes as 16 hexadecimal digits; different bytes collide with probability 2^-64. It
/// runs at the speed of memory. It guards against accidents, not against attackers. The bytes may be added in
/// parts.
class Fingerprint {
 public:
  /// The size of every part but the last must be a multiple of this.
  static constexpr std::size_t part_bytes = 64;

  Fingerprint() {
    for (std::size_t i = 0; i < lanes_.size(); ++i) lanes_[i] = (i + 1) * factor;
  }

  /// Adds the next bytes.
  void add(std::string_view bytes) {
    size_ += bytes.size();
    std::size_t position = 0;
    for (; bytes.size() - position >= sizeof words_; position += sizeof words_)
      take(bytes.data() + position, sizeof words_);
    rest_ = bytes.size() - position;
    if (rest_ > 0) std::memcpy(rest_bytes_.data(), bytes.data() + position, rest_);
  }

  /// The fingerprint of all bytes added.
  std::string text() {
    words_.fill(0);
    take(rest_bytes_.data(), rest_);
    std::uint64_t hash = size_;
    for (const std::uint64_t lane : lanes_) hash = splitmix64(hash ^ lane);
    std::array<char, 16> digits{};
    const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), hash, 16).ptr;
    return std::string(static_cast<std::size_t>(digits.data() + digits.size() - end), '0') +
           std::string(digits.data(), end);
  }

 private:
  static constexpr std::uint64_t factor = 0x9e3779b97f4a7c15;

  // Eight lanes, so that their multiplications overlap. Each step is a bijection of the lane and of the word,
  // so no difference is ever lost within a lane.
  void take(const char* from, std::size_t size) {
    std::memcpy(words_.data(), from, size);
    for (std::size_t i = 0; i < lanes_.size(); ++i) {
      lanes_[i] = (lanes_[i] ^ words_[i]) * factor;
      lanes_[i] ^= lanes_[i] >> 32;
    }
  }

  std::array<std::uint64_t, 8> lanes_{}, words_{};
  std::array<char, part_bytes> rest_bytes_{};
  std::size_t rest_ = 0;
  std::uint64_t size_ = 0;
};

/// The Fingerprint of `bytes`.
inline std::string fingerprint(std::string_view bytes) {
  Fingerprint fingerprint;
  fingerprint.add(bytes);
  return fingerprint.text();
}

}  // namespace lnfree
