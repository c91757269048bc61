#pragma once

#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <type_traits>
#include <unordered_map>

#include <dnnl.hpp>

#include <lnfree/core/bfloat16.hpp>
#include <lnfree/core/error.hpp>
#include <lnfree/core/tensor.hpp>
#include <lnfree/device/cpu/cpu.hpp>
#include <lnfree/device/cpu/vector_product.hpp>

namespace lnfree::cpu {

/// Copies the addend to the result, for a library that can only add to its result.
template <class T>
void place_addend(Output<T> c) {
  if (!c.adds() || c.addend.data == c.matrix.data) return;
  for (Index i = 0; i < c.matrix.rows; ++i) std::copy_n(c.addend.row(i), c.matrix.cols, c.matrix.row(i));
}

/// Products of bf16 matrices by oneDNN, which sums in float. The primitive of a product is created at its
/// first call and reused by later calls with the same sizes and strides.
class BF16Products {
 public:
  BF16Products() {
    // An instruction set's bits include those of the sets it contains.
    constexpr auto needed = static_cast<unsigned>(dnnl::cpu_isa::avx512_core_bf16);
    if ((static_cast<unsigned>(dnnl::get_effective_cpu_isa()) & needed) != needed) {
      throw Error(
          "this processor has no bf16 arithmetic (AVX512_BF16); use the device Cpu, whose float is faster "
          "here");
    }
  }

  /// c = a b, or a b plus an addend, with c in bf16 or in float.
  template <class T>
  void run(Operand<BFloat16> a, Operand<BFloat16> b, Output<T> c) {
    if (has_spread_vector(a, b, c.matrix)) return run_plainly(a, b, c);
    constexpr bool result_is_float = std::is_same_v<T, float>;
    const Key key{a.rows(),        b.cols(),     a.cols(),     a.matrix.stride, b.matrix.stride,
                  c.matrix.stride, a.transposed, b.transposed, c.adds(),        result_is_float};
    auto found = products_.find(key);
    if (found == products_.end()) found = products_.emplace(key, prepare(key)).first;
    Product& product = found->second;
    place_addend(c);
    product.arguments.at(DNNL_ARG_SRC).set_data_handle(const_cast<BFloat16*>(a.matrix.data));
    product.arguments.at(DNNL_ARG_WEIGHTS).set_data_handle(const_cast<BFloat16*>(b.matrix.data));
    product.arguments.at(DNNL_ARG_DST).set_data_handle(c.matrix.data);
    product.primitive.execute(stream_, product.arguments);
    stream_.wait();
  }

 private:
  /// Whether a factor or the result is a vector that is not contiguous, which oneDNN 3 treats as contiguous.
  /// No layer of a model has such a product.
  template <class T>
  static bool has_spread_vector(Operand<BFloat16> a, Operand<BFloat16> b, Matrix<T> c) {
    return (a.rows() == 1 && a.transposed && a.matrix.stride != 1) ||
           (b.cols() == 1 && ((!b.transposed && b.matrix.stride != 1) || c.stride != 1));
  }

  template <class T>
  static void run_plainly(Operand<BFloat16> a, Operand<BFloat16> b, Output<T> c) {
    const auto element = [](Operand<BFloat16> x, Index i, Index j) -> float {
      return x.transposed ? x.matrix.row(j)[i] : x.matrix.row(i)[j];
    };
    for (Index i = 0; i < c.matrix.rows; ++i) {
      for (Index j = 0; j < c.matrix.cols; ++j) {
        float sum = c.adds() ? static_cast<float>(c.addend.row(i)[j]) : 0.0f;
        for (Index k = 0; k < a.cols(); ++k) sum += element(a, i, k) * element(b, k, j);
        c.matrix.row(i)[j] = sum;
      }
    }
  }

  /// Rows, columns and depth; strides of A, B and C; A^T, B^T, whether something is added, C in float.
  using Key = std::array<Index, 10>;
  struct Product {
    dnnl::matmul primitive;
    std::unordered_map<int, dnnl::memory> arguments;
  };

  Product prepare(const Key& key) {
    const auto& [m, n, k, a_stride, b_stride, c_stride, a_transposed, b_transposed, adds, in_float] = key;
    using Type = dnnl::memory::data_type;
    const auto describe = [](Index rows, Index cols, Index stride, bool transposed, Type type) {
      const dnnl::memory::dims strides =
          transposed ? dnnl::memory::dims{1, stride} : dnnl::memory::dims{stride, 1};
      return dnnl::memory::desc({rows, cols}, type, strides);
    };
    const auto a = describe(m, k, a_stride, a_transposed != 0, Type::bf16);
    const auto b = describe(k, n, b_stride, b_transposed != 0, Type::bf16);
    const auto c = describe(m, n, c_stride, false, in_float != 0 ? Type::f32 : Type::bf16);
    dnnl::primitive_attr attributes;
    if (adds != 0) {
      dnnl::post_ops sum;
      sum.append_sum(1.0f);
      attributes.set_post_ops(sum);
    }
#if DNNL_VERSION_MAJOR >= 3
    const dnnl::matmul::primitive_desc description(engine_, a, b, c, attributes);
#else
    const dnnl::matmul::primitive_desc description(dnnl::matmul::desc(a, b, c), attributes, engine_);
#endif
    const auto memory = [&](const dnnl::memory::desc& d) { return dnnl::memory(d, engine_, nullptr); };
    return {dnnl::matmul(description),
            {{DNNL_ARG_SRC, memory(a)}, {DNNL_ARG_WEIGHTS, memory(b)}, {DNNL_ARG_DST, memory(c)}}};
  }

  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream_{engine_};
  std::map<Key, Product> products_;
};

/// The processor's cores with weights, activations and their gradients in bf16; sums, statistics, head
/// entropies, gradients of parameters and master weights in float. Matrix products are oneDNN's. Throws Error
/// if the processor has no bf16 arithmetic.
struct CpuBF16 : Cores {
  using Scalar = BFloat16;
  using Accumulator = float;

  std::shared_ptr<BF16Products> products = std::make_shared<BF16Products>();
};

inline void convert(CpuBF16&, Index count, const float* from, BFloat16* to) {
  parallel_for(count, elementwise_grain, [&](Index begin, Index end) {
#pragma omp simd
    for (Index i = begin; i < end; ++i) to[i] = from[i];
  });
}

inline void gemm(CpuBF16& device, Operand<BFloat16> a, Operand<BFloat16> b, Output<BFloat16> c) {
  if (is_vector_product(a)) return vector_product(a, b, c);
  device.products->run(a, b, c);
}
inline void gemm(CpuBF16& device, Operand<BFloat16> a, Operand<BFloat16> b, Output<float> c) {
  if (is_vector_product(a)) return vector_product(a, b, c);
  device.products->run(a, b, c);
}

}  // namespace lnfree::cpu

namespace lnfree {
using cpu::CpuBF16;
}  // namespace lnfree
