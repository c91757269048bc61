#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numbers>
#include <string_view>

#include <lnfree/core/macros.hpp>
#include <lnfree/core/tensor.hpp>

/// Counter-based random numbers: each number is a pure function of (seed, stream, position), so all devices
/// and thread counts draw the same numbers, and resuming a run needs no stored state.
namespace lnfree {

/// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011).
class Philox {
 public:
  using Block = std::array<std::uint32_t, 4>;  ///< Four numbers, which are generated together.

  /// Every (seed, stream) gives an independent stream.
  LNFREE_HOST_DEVICE constexpr Philox(std::uint64_t seed, std::uint64_t stream)
      : seed_(seed), stream_(stream) {}

  /// The four uniform 32-bit numbers of one position of the stream.
  LNFREE_HOST_DEVICE constexpr Block operator()(std::uint64_t position) const {
    std::uint32_t c0 = low(position), c1 = high(position), c2 = low(stream_), c3 = high(stream_);
    std::uint32_t k0 = low(seed_), k1 = high(seed_);
    for (int round = 0; round < 10; ++round) {
      const std::uint64_t p0 = std::uint64_t{0xD2511F53u} * c0;
      const std::uint64_t p1 = std::uint64_t{0xCD9E8D57u} * c2;
      c0 = high(p1) ^ c1 ^ k0;
      c1 = low(p1);
      c2 = high(p0) ^ c3 ^ k1;
      c3 = low(p0);
      k0 += 0x9E3779B9u;
      k1 += 0xBB67AE85u;
    }
    return {c0, c1, c2, c3};
  }

 private:
  LNFREE_HOST_DEVICE static constexpr std::uint32_t low(std::uint64_t x) {
    return static_cast<std::uint32_t>(x);
  }
  LNFREE_HOST_DEVICE static constexpr std::uint32_t high(std::uint64_t x) {
    return static_cast<std::uint32_t>(x >> 32);
  }

  std::uint64_t seed_;
  std::uint64_t stream_;
};

/// A separate stream for each name (FNV-1a hash).
constexpr std::uint64_t stream_of(std::string_view name) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return hash;
}

/// Fills `values` with N(0, std) by the Box-Muller transform; on the host, in double, so that every device
/// starts from the same weights. They are the elements of a longer array starting at `first`, a multiple of
/// 4.
template <class T>
void fill_normal(T* values, Index count, double std, Philox random, Index first = 0) {
  constexpr double scale = 1.0 / 4294967296.0;
  for (Index i = 0; i < count; i += 4) {
    const Philox::Block block = random(static_cast<std::uint64_t>((first + i) / 4));
    for (std::size_t pair = 0; pair < 2; ++pair) {
      const double radius = std * std::sqrt(-2.0 * std::log((block[2 * pair] + 0.5) * scale));
      const double angle = 2.0 * std::numbers::pi * ((block[2 * pair + 1] + 0.5) * scale);
      const Index at = i + static_cast<Index>(2 * pair);
      if (at < count) values[at] = static_cast<T>(radius * std::cos(angle));
      if (at + 1 < count) values[at + 1] = static_cast<T>(radius * std::sin(angle));
    }
  }
}

}  // namespace lnfree
