#pragma once

#include <cstddef>
#include <cstdint>

#include <lnfree/core/error.hpp>
#include <lnfree/core/tensor.hpp>
#include <lnfree/device/cuda/runtime.hpp>

namespace lnfree::cuda {

struct FactorScales {
  const float* a = nullptr;
  const float* b = nullptr;
};

/// In place of the library's header of this name: products as plain loops, summed in float.
class Products {
 public:
  explicit Products(Stream& stream) : stream_(stream) {}

  template <class A, class B, class T>
  void run(Operand<A> a, Operand<B> b, Output<T> c, const T* bias = nullptr, bool relu = false,
           FactorScales scales = {}) {
    if constexpr (sizeof(A) == 1 || sizeof(B) == 1) {
      // What cuBLASLt refuses on Ada and Hopper.
      if (a.transposed || !b.transposed || a.rows() % 16 != 0 || a.cols() % 16 != 0 || b.cols() % 16 != 0 ||
          !is_aligned(a, b, c))
        throw Error("cuBLASLt has no such product in eight bits");
    }
    stream_.now_or_later([=] { multiply(a, b, c, bias, relu, scales); });
  }

  template <class A, class B, class T>
  static bool is_aligned(Operand<A> a, Operand<B> b, Output<T> c) {
    return aligned(a.matrix) && aligned(b.matrix) && aligned(c.matrix) && aligned(c.addend);
  }

 private:
  template <class T>
  static bool aligned(Matrix<T> m) {
    return (reinterpret_cast<std::uintptr_t>(m.data) | static_cast<std::size_t>(m.stride) * sizeof(T)) % 16 ==
           0;
  }

  template <class A, class B, class T>
  static void multiply(Operand<A> a, Operand<B> b, Output<T> c, const T* bias, bool relu,
                       FactorScales scales) {
    const float scale = (scales.a == nullptr ? 1 : *scales.a) * (scales.b == nullptr ? 1 : *scales.b);
    const auto at = [](const auto& m, Index i, Index j) {
      return static_cast<float>(m.transposed ? m.matrix.row(j)[i] : m.matrix.row(i)[j]);
    };
    for (Index i = 0; i < c.matrix.rows; ++i) {
      for (Index j = 0; j < c.matrix.cols; ++j) {
        float sum = 0;
        for (Index k = 0; k < a.cols(); ++k) sum += at(a, i, k) * at(b, k, j);
        sum *= scale;
        if (c.adds()) sum += static_cast<float>(c.addend.row(i)[j]);
        if (bias != nullptr) sum += static_cast<float>(bias[j]);
        c.matrix.row(i)[j] = T(relu && sum < 0 ? 0.0f : sum);
      }
    }
  }

  Stream& stream_;
};

}  // namespace lnfree::cuda
