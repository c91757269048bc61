#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>

#include <lnfree/device/cuda/runtime.hpp>

/// In place of the library's header of this name: what the instructions do, by their definitions in NVIDIA's
/// PTX ISA (ldmatrix; mma.m16n8k16 with .bf16 factors, mma.m16n8k32 with .s8 factors).
namespace lnfree::cuda {

template <bool Transposed>
void load_matrices(std::uint32_t (&r)[4], const void* row) {
  const unsigned lane = simt::Simulator::instance().lane();
  const void* const* const rows = simt::Simulator::instance().exchange(row);
  for (unsigned m = 0; m < 4; ++m) {
    std::uint16_t pair[2];
    for (unsigned e = 0; e < 2; ++e) {
      const unsigned i = lane / 4, j = lane % 4 * 2 + e;
      const auto* const from = static_cast<const std::uint16_t*>(rows[8 * m + (Transposed ? j : i)]);
      if (reinterpret_cast<std::uintptr_t>(from) % 16 != 0) std::abort();  // as the instruction would
      pair[e] = from[Transposed ? i : j];
    }
    std::memcpy(&r[m], pair, sizeof(pair));
  }
}

/// c (16 x 8) += a b, with `Packed` numbers in each register of a factor; number(r, e) is the e-th in r.
template <unsigned Packed, class Sum, class Number>
void multiply_add(Sum (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1,
                  const Number& number) {
  struct Lane {
    std::uint32_t a[4], b[2];
    Sum c[4];
  };
  constexpr unsigned depth = 8 * Packed;
  // A row of 8 at a time, since the simulator spends most of its time here.
  using Row [[gnu::vector_size(8 * sizeof(Sum))]] = Sum;
  const auto multiply = [&](Lane* lanes) {
    Sum left[16][depth];
    Row right[depth], sums[16];
    for (unsigned lane = 0; lane < 32; ++lane) {
      const unsigned group = lane / 4;
      for (unsigned e = 0; e < Packed; ++e) {
        const unsigned first = Packed * (lane % 4) + e;
        for (unsigned r = 0; r < 4; ++r)
          left[group + r % 2 * 8][first + r / 2 * (depth / 2)] = number(lanes[lane].a[r], e);
        for (unsigned r = 0; r < 2; ++r) right[first + r * (depth / 2)][group] = number(lanes[lane].b[r], e);
      }
      for (unsigned e = 0; e < 4; ++e) sums[group + e / 2 * 8][2 * (lane % 4) + e % 2] = lanes[lane].c[e];
    }
    for (unsigned i = 0; i < 16; ++i) {
      for (unsigned k = 0; k < depth; ++k) sums[i] += left[i][k] * right[k];
    }
    for (unsigned lane = 0; lane < 32; ++lane) {
      for (unsigned e = 0; e < 4; ++e) lanes[lane].c[e] = sums[lane / 4 + e / 2 * 8][2 * (lane % 4) + e % 2];
    }
  };
  auto& simulator = simt::Simulator::instance();
  const Lane mine{{a[0], a[1], a[2], a[3]}, {b0, b1}, {c[0], c[1], c[2], c[3]}};
  const unsigned lane = simulator.lane();
  std::copy_n(simulator.exchange(mine, multiply)[lane].c, 4, c);
}

inline void multiply_add(float (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1) {
  multiply_add<2>(c, a, b0, b1, [](std::uint32_t pair, unsigned which) {
    return std::bit_cast<float>(which == 0 ? pair << 16 : pair & 0xffff0000u);
  });
}

inline void multiply_add(int (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1) {
  multiply_add<4>(c, a, b0, b1, [](std::uint32_t four, unsigned which) {
    return static_cast<int>(static_cast<std::int8_t>(four >> 8 * which & 0xffu));
  });
}

}  // namespace lnfree::cuda
