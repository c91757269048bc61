#pragma once

#include <lnfree/core/tensor.hpp>
#include <lnfree/device/cuda/runtime.hpp>

namespace lnfree::cuda {

/// In place of the library's header of this name: products as plain loops, summed in float.
class Products {
 public:
  explicit Products(Stream& stream) : stream_(stream) {}

  template <class S, class T>
  void run(Operand<S> a, Operand<S> b, Output<T> c, const T* bias = nullptr, bool relu = false) {
    stream_.now_or_later([=] { multiply(a, b, c, bias, relu); });
  }

  template <class S, class T>
  static bool is_aligned(Operand<S> a, Operand<S> b, Output<T> c) {
    return a.matrix.stride % 8 == 0 && b.matrix.stride % 8 == 0 && c.matrix.stride % 8 == 0;
  }

 private:
  template <class S, class T>
  static void multiply(Operand<S> a, Operand<S> b, Output<T> c, const T* bias, bool relu) {
    const auto at = [](const Operand<S>& m, Index i, Index j) {
      return static_cast<float>(m.transposed ? m.matrix.row(j)[i] : m.matrix.row(i)[j]);
    };
    for (Index i = 0; i < c.matrix.rows; ++i) {
      for (Index j = 0; j < c.matrix.cols; ++j) {
        float sum = 0;
        for (Index k = 0; k < a.cols(); ++k) sum += at(a, i, k) * at(b, k, j);
        if (c.adds()) sum += static_cast<float>(c.addend.row(i)[j]);
        if (bias != nullptr) sum += static_cast<float>(bias[j]);
        c.matrix.row(i)[j] = T(relu && sum < 0 ? 0.0f : sum);
      }
    }
  }

  Stream& stream_;
};

}  // namespace lnfree::cuda
