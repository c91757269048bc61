#pragma once

#include <cstdint>

#include <lnfree/device/cuda/runtime.hpp>

/// The instructions with which a warp multiplies matrices in bf16 or INT8 on tensor cores. The tests put a
/// header of the same name in front of this one.
namespace lnfree::cuda {

/// Loads four 8 x 8 matrices of 16-bit numbers from shared memory. Lane l passes the address of row l % 8 of
/// matrix l / 8. Of each matrix m it gets, in r[m], the two numbers of row l / 4 from column 2 (l % 4) on;
/// with `Transposed`, those of the transposed matrix.
template <bool Transposed>
__device__ inline void load_matrices(std::uint32_t (&r)[4], const void* row) {
  const auto address = static_cast<unsigned>(__cvta_generic_to_shared(row));
  if constexpr (Transposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
  }
}

/// c (16 x 8) += a (16 x 16) b (16 x 8), with a and b in bf16. Lane l holds
///   of c: rows l / 4 and l / 4 + 8, in columns 2 (l % 4) and the next;
///   of a: the same rows and columns, then the same rows eight columns further on;
///   of b: column l / 4, in rows 2 (l % 4) and the next, then eight rows further on.
__device__ inline void multiply_add(float (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                                    std::uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/// c (16 x 8) += a (16 x 32) b (32 x 8), with a and b in INT8. A lane holds the same of c, and four numbers
/// where it holds two in bf16:
///   of a: rows l / 4 and l / 4 + 8, in columns 4 (l % 4) and the next three, then 16 columns further on;
///   of b: column l / 4, in rows 4 (l % 4) and the next three, then 16 rows further on.
__device__ inline void multiply_add(int (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                                    std::uint32_t b1) {
  asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

}  // namespace lnfree::cuda
