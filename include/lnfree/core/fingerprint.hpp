#pragma once

#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace lnfree {

/// A fingerprint of any bytes, 16 hexadecimal digits: equal bytes have equal ones, others differ but for one
/// case in 2^64. It reads memory as fast as it comes, and withstands accidents, not intent.
inline std::string fingerprint(std::string_view bytes) {
  // Eight lanes, so that their multiplications overlap. Each step is a bijection of the lane and of the word,
  // so no difference is ever lost within a lane.
  constexpr std::uint64_t factor = 0x9e3779b97f4a7c15;
  std::array<std::uint64_t, 8> lanes{}, words{};
  for (std::size_t i = 0; i < lanes.size(); ++i) lanes[i] = (i + 1) * factor;
  const auto take = [&](const char* from, std::size_t size) {
    std::memcpy(words.data(), from, size);
    for (std::size_t i = 0; i < lanes.size(); ++i) {
      lanes[i] = (lanes[i] ^ words[i]) * factor;
      lanes[i] ^= lanes[i] >> 32;
    }
  };
  std::size_t position = 0;
  for (; bytes.size() - position >= sizeof words; position += sizeof words)
    take(bytes.data() + position, sizeof words);
  words.fill(0);
  take(bytes.data() + position, bytes.size() - position);

  std::uint64_t hash = bytes.size();
  for (const std::uint64_t lane : lanes) {  // the finalizer of splitmix64 (Steele, Lea and Flood 2014)
    hash = (hash ^ lane) + factor;
    hash = (hash ^ (hash >> 30)) * 0xbf58476d1ce4e5b9;
    hash = (hash ^ (hash >> 27)) * 0x94d049bb133111eb;
    hash ^= hash >> 31;
  }
  std::array<char, 16> digits{};
  const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), hash, 16).ptr;
  return std::string(static_cast<std::size_t>(digits.data() + digits.size() - end), '0') +
         std::string(digits.data(), end);
}

}  // namespace lnfree
