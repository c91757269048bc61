#pragma once

#include <algorithm>
#include <cassert>
#include <concepts>
#include <cstdint>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <lnfree/activation/relu.hpp>
#include <lnfree/core/concepts.hpp>
#include <lnfree/core/error.hpp>
#include <lnfree/core/float8.hpp>
#include <lnfree/core/memory.hpp>
#include <lnfree/core/rounded_weights.hpp>
#include <lnfree/core/tensor.hpp>
#include <lnfree/device/cuda/cuda.hpp>
#include <lnfree/device/cuda/factors.hpp>
#include <lnfree/device/primitives.hpp>

namespace lnfree::cuda {

/// A weight W (in, out) rounded for products, and memory for their other factor. The model owns the memory.
struct RoundedWeight {
  Matrix<const BFloat16> weight;  ///< The parameter itself.
  Matrix<E4M3> stored;            ///< (in, out)
  Matrix<E4M3> transposed;        ///< (out, in)
  Scale* scale;                   ///< Of both layouts.
  Scale* input_scale;             ///< Of x in x W.
  Scale* gradient_scale;          ///< Of d_y in d_y W^T.
  void* other_factor;             ///< The rounded x or d_y of the current product.
  Index max_rows;                 ///< The most rows of x or d_y.
};

/// The rounded weights of all models on a device, by the address of the weight.
class RoundedWeightTable {
 public:
  void add(const RoundedWeight& weight) { weights_[weight.weight.data] = weight; }
  void remove(const RoundedWeight& weight) {
    weights_.erase(weight.weight.data);
    expected = {};
  }

  /// The rounded weight of which `matrix` is all or some of the columns; null if there is none.
  const RoundedWeight* find(Matrix<const BFloat16> matrix) const {
    const auto next = weights_.upper_bound(matrix.data);
    if (next == weights_.begin()) return nullptr;
    const RoundedWeight& found = std::prev(next)->second;
    const Index column = matrix.data - found.weight.data;
    const bool inside = matrix.rows == found.weight.rows && matrix.stride == found.weight.stride &&
                        column + matrix.cols <= found.weight.cols;
    return inside ? &found : nullptr;
  }

  /// The other factor of the next product, if the kernel that computes it can also round it.
  struct Expected {
    Matrix<const BFloat16> factor;
    const RoundedWeight* weight = nullptr;
    Scale* scale = nullptr;  ///< Its scale, once it has been rounded into the weight's other_factor.
  };
  Expected expected;

 private:
  std::map<const BFloat16*, RoundedWeight> weights_;
};

/// Like Cuda, but the products x W and d_y W^T have factors in eight bits and are summed in float: E4M3 for
/// activations and weights, E5M2 for gradients. The gradients of weights, the output matrix, attention and
/// everything else are computed as on Cuda, and so are products whose sizes are not multiples of 16. Throws
/// NoDevice unless the GPU has compute capability 8.9 or higher.
struct CudaFP8 : Cuda {
  CudaFP8() {
    constexpr int required = 89;
    if (const int there = stream().compute_capability(); there < required) {
      const auto text = [](int capability) {
        return std::to_string(capability / 10) + "." + std::to_string(capability % 10);
      };
      throw NoDevice("products in FP8 need a GPU of compute capability " + text(required) +
                     " or higher, and " + stream().device_name() + " has " + text(there) +
                     "; use a program without _fp8 in its name, which computes in bf16");
    }
  }

  /// Shared by copies of the device.
  std::shared_ptr<RoundedWeightTable> rounded_weights = std::make_shared<RoundedWeightTable>();
};

/// Cancels expect_product(). A factor that was already rounded is discarded.
inline void forget_expected(CudaFP8& device) {
  auto& expected = device.rounded_weights->expected;
  if (expected.scale != nullptr) device.stream().fill_zero(&expected.scale->max, sizeof(expected.scale->max));
  expected = {};
}

/// c = a b, with a rounded to the format F first.
template <class F>
void rounded_product(CudaFP8& device, Matrix<const BFloat16> a, Scale* a_scale, Matrix<F> rounded_a,
                     Operand<E4M3> b, const Scale* b_scale, Output<BFloat16> c, const BFloat16* bias,
                     bool relu) {
  auto& expected = device.rounded_weights->expected;
  const bool is_guessed = expected.scale == a_scale && expected.factor.data == a.data;
  if (is_guessed) {
    expected = {};
  } else if (expected.scale != nullptr) {
    forget_expected(device);  // this product overwrites its memory
  }
  RoundRows<F> rows{a, rounded_a};
  as_one_row(rows.from, rows.to);
  round_factor(device.stream(), rows, a_scale, is_guessed);
  device.handles->products.run(Operand<F>(rounded_a), b, c, bias, relu, {&a_scale->value, &b_scale->value});
}

/// Whether every row starts at a multiple of 16 bytes and has a multiple of 16 elements.
inline bool is_of_whole_packs(Matrix<const BFloat16> m) {
  return m.cols % factor_pack == 0 && m.stride % 8 == 0 && reinterpret_cast<std::uintptr_t>(m.data) % 16 == 0;
}

/// Announces that the next primitive to write `factor` writes all of it, and that the next product with a
/// weight is that of `factor` and `weight`. That primitive can then round the factor as well.
inline void expect_product(CudaFP8& device, Matrix<const BFloat16> factor, Matrix<const BFloat16> weight) {
  const RoundedWeight* const w = device.rounded_weights->find(weight);
  const bool suits = w != nullptr && is_of_whole_packs(factor) && factor.is_contiguous() &&
                     factor.rows % factor_pack == 0 && factor.rows <= w->max_rows;
  forget_expected(device);
  if (suits) device.rounded_weights->expected = {factor, w, nullptr};
}

/// Whether `made` is the announced factor, and `from`, of the same size, can be read in the same packs.
inline bool is_expected(CudaFP8& device, Matrix<const BFloat16> made, Matrix<const BFloat16> from) {
  const Matrix<const BFloat16>& factor = device.rounded_weights->expected.factor;
  return factor.data == made.data && factor.rows == made.rows && factor.cols == made.cols &&
         made.is_contiguous() && from.is_contiguous() && is_of_whole_packs(from);
}

/// `body`, which computes the announced factor, extended to round it as well.
template <class F, class Body>
AndRound<F, Body> and_round(CudaFP8& device, const Body& body, Scale* RoundedWeight::* scale) {
  auto& expected = device.rounded_weights->expected;
  Matrix<const BFloat16> made = expected.factor;
  Matrix<F> to(static_cast<F*>(expected.weight->other_factor), made.rows, made.cols);
  as_one_row(made, to);
  expected.scale = expected.weight->*scale;
  return {body, made, to, expected.scale};
}

template <Activation A>
void activation_forward(CudaFP8& device, A activation, Matrix<const BFloat16> x, const BFloat16* parameter,
                        Matrix<BFloat16> y) {
  if (!is_expected(device, y, x)) {
    activation_forward(static_cast<Cuda&>(device), activation, x, parameter, y);
    return;
  }
  as_one_row(x, y);
  for_each_pack<pack_size<BFloat16>>(
      device.stream(), 1, x.cols,
      and_round<E4M3>(device, ActivationForward<A, BFloat16>{x, parameter, y}, &RoundedWeight::input_scale));
}

template <Activation A>
void activation_backward(CudaFP8& device, A activation, Matrix<const BFloat16> saved,
                         const BFloat16* parameter, Matrix<BFloat16> d_y, float* d_parameter) {
  if (!is_expected(device, d_y, saved)) {
    activation_backward(static_cast<Cuda&>(device), activation, saved, parameter, d_y, d_parameter);
    return;
  }
  as_one_row(saved, d_y);
  const auto body = and_round<E5M2>(device, ActivationBackward<A, BFloat16>{saved, parameter, d_y},
                                    &RoundedWeight::gradient_scale);
  if constexpr (LearnableActivation<A>) {
    for_each_pack_and_sum<pack_size<BFloat16>, 1>(device, 1, saved.cols, body, {d_parameter});
  } else {
    for_each_pack<pack_size<BFloat16>>(device.stream(), 1, saved.cols, body);
  }
}

/// If b is a rounded weight, rounds a and multiplies in eight bits. This is the only place that decides which
/// products do.
template <class A>
requires(std::same_as<A, Unactivated> || std::same_as<A, ReLU>)
void gemm(CudaFP8& device, Operand<BFloat16> a, Operand<BFloat16> b, Output<BFloat16> c,
          Epilogue<BFloat16, A> epilogue) {
  assert(a.rows() == c.matrix.rows && b.cols() == c.matrix.cols && a.cols() == b.rows());
  const RoundedWeight* const w = a.transposed ? nullptr : device.rounded_weights->find(b.matrix);
  const Matrix<const BFloat16> x = a.matrix;
  const bool whole = is_of_whole_packs(x) && is_of_whole_packs(c.matrix) &&
                     (!c.adds() || is_of_whole_packs(c.addend)) && x.rows % factor_pack == 0;
  if (w == nullptr || !whole || x.rows > w->max_rows) {
    gemm(static_cast<Cuda&>(device), a, b, c, epilogue);
    return;
  }
  constexpr bool relu = std::same_as<A, ReLU>;
  const Index column = b.matrix.data - w->weight.data;
  // cuBLASLt multiplies in eight bits only if both factors are contiguous along the summed dimension.
  if (b.transposed) {
    rounded_product<E5M2>(device, x, w->gradient_scale, {static_cast<E5M2*>(w->other_factor), x.rows, x.cols},
                          transpose(w->stored.columns(column, b.matrix.cols)), w->scale, c, epilogue.bias,
                          relu);
  } else {
    rounded_product<E4M3>(device, x, w->input_scale, {static_cast<E4M3*>(w->other_factor), x.rows, x.cols},
                          transpose(w->transposed.slice(column, b.matrix.cols)), w->scale, c, epilogue.bias,
                          relu);
  }
}
inline void gemm(CudaFP8& device, Operand<BFloat16> a, Operand<BFloat16> b, Output<BFloat16> c) {
  gemm(device, a, b, c, Epilogue<BFloat16, Unactivated>{});
}
inline void gemm(CudaFP8& device, Operand<BFloat16> a, Operand<BFloat16> b, Output<float> c) {
  gemm(static_cast<Cuda&>(device), a, b, c);
}

}  // namespace lnfree::cuda

namespace lnfree {
using cuda::CudaFP8;

/// On CudaFP8: each weight in both layouts, if its sizes are multiples of 16.
template <class Device>
requires std::derived_from<Device, CudaFP8>
class RoundedWeights<Device> {
 public:
  RoundedWeights() = default;
  RoundedWeights(const RoundedWeights&) = delete;
  RoundedWeights& operator=(const RoundedWeights&) = delete;
  ~RoundedWeights() {
    if (table_ == nullptr) return;
    for (const cuda::RoundedWeight& weight : rounded_) table_->remove(weight);
  }

  /// The stored weights, (in, out) each.
  using Weights = std::vector<Matrix<const BFloat16>>;

  /// Reserves memory for products of up to `rows` rows with these weights.
  void plan(Arena& arena, const Weights& weights, Index rows) {
    rounded_.clear();
    Index widest = 0;
    for (const Matrix<const BFloat16>& weight : weights) {
      const Index in = weight.rows, out = weight.cols;
      if (in % cuda::factor_pack != 0 || out % cuda::factor_pack != 0) continue;
      widest = std::max({widest, in, out});
      const auto scale = [&] { return arena.take<cuda::Scale>(1); };
      rounded_.push_back({weight, arena.matrix<E4M3>(in, out), arena.matrix<E4M3>(out, in), scale(), scale(),
                          scale(), nullptr, rows});
    }
    void* const other_factor = arena.take<std::uint8_t>(rows * widest);
    for (cuda::RoundedWeight& weight : rounded_) weight.other_factor = other_factor;
  }

  /// Call it before a pass: rounds the weights if `version` differs from the last call's.
  void update(Device& device, std::uint64_t version) {
    if (version_ == version) return;
    version_ = version;
    table_ = device.rounded_weights;
    for (const cuda::RoundedWeight& weight : rounded_) {
      table_->add(weight);
      round_factor(device.stream(),
                   cuda::RoundBothWays<E4M3>{weight.weight, weight.stored, weight.transposed}, weight.scale);
    }
  }

 private:
  std::vector<cuda::RoundedWeight> rounded_;
  std::shared_ptr<cuda::RoundedWeightTable> table_;  // where they are entered; null before the first update
  std::optional<std::uint64_t> version_;             // of the weights they were rounded from
};

static_assert(Device<CudaFP8>);

}  // namespace lnfree
