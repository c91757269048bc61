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
#include <vector>

#include <lnfree/activation/relu.hpp>
#include <lnfree/core/bfloat16.hpp>
#include <lnfree/core/error.hpp>
#include <lnfree/core/memory.hpp>
#include <lnfree/core/rounded_weights.hpp>
#include <lnfree/core/tensor.hpp>
#include <lnfree/device/cuda/cuda.hpp>
#include <lnfree/device/cuda/factor_rounding.hpp>
#include <lnfree/device/cuda/packs.hpp>
#include <lnfree/device/primitives.hpp>

/// What devices that multiply in eight bits have in common: they round weights once after each update and
/// find them again by their address. How factors are rounded and multiplied is left to a Format
/// (fp8.hpp, int8.hpp), a struct with these members:
///
///   name, suffix          of the format, and of the programs that use it
///   capability            the least compute capability that it needs, 89 for 8.9
///   max_depth             the longest sum of a product
///   Weight                both layouts of a rounded weight, and their scales
///   Rounding<kind>        the other factor's rounding by the kernel that computes it (factor_rounding.hpp)
///   plan(arena, in, out)  memory for a Weight
///   factor_bytes          of a product's other factor, given its most rows and columns
///   round                 rounds a weight
///   rounding<kind>        a Rounding to the memory from which multiply() takes the other factor
///   discard               undoes what such a rounding has done
///   multiply              rounds the other factor, unless that has been done, and multiplies
namespace lnfree::cuda {

/// A weight W rounded for products, and memory for their other factor. The model owns the memory.
template <class Format>
struct RoundedWeight {
  Matrix<const BFloat16> weight;  ///< The parameter itself: (in, out), or (V, C) if it is the output matrix.
  typename Format::Weight rounded;  ///< What is multiplied.
  void* other_factor;               ///< The rounded x or d_y of the current product.
  Index max_rows;                   ///< The most rows of x or d_y.
  bool is_output_matrix = false;    ///< Then its products are x W^T and d_y W.

  /// The other factor in a product with W or W^T.
  FactorKind multiplied_by(bool transposed) const {
    return transposed == is_output_matrix ? FactorKind::input : FactorKind::gradient;
  }
};

/// The factor of a product to come, and the weight that it will be multiplied by; none at first.
template <class Format>
struct AnnouncedFactor {
  Matrix<const BFloat16> factor;
  const RoundedWeight<Format>* weight = nullptr;

  bool is(Matrix<const BFloat16> matrix) const {
    return weight != nullptr && factor.data == matrix.data && factor.rows == matrix.rows &&
           factor.cols == matrix.cols && factor.stride == matrix.stride;
  }
};

/// A factor in its weight's other_factor, where the kernel that computed it has rounded it.
template <class Format>
struct WaitingFactor : AnnouncedFactor<Format> {
  FactorKind kind;  ///< What it has been rounded as.
};

/// The rounded weights of all models on a device, by the address of the weight.
template <class Format>
class RoundedWeightTable {
 public:
  void add(const RoundedWeight<Format>& weight) { weights_[weight.weight.data] = weight; }
  void remove(const RoundedWeight<Format>& weight) {
    const auto found = weights_.find(weight.weight.data);
    if (found == weights_.end()) return;
    if (announced.weight == &found->second) announced = {};
    if (waiting.weight == &found->second) waiting = {};
    weights_.erase(found);
  }

  /// The rounded weight of which `matrix` is all or some of the columns; null if there is none.
  const RoundedWeight<Format>* find(Matrix<const BFloat16> matrix) const {
    const auto next = weights_.upper_bound(matrix.data);
    if (next == weights_.begin()) return nullptr;
    const RoundedWeight<Format>& found = std::prev(next)->second;
    const Index column = matrix.data - found.weight.data;
    const bool inside = matrix.rows == found.weight.rows && matrix.stride == found.weight.stride &&
                        column + matrix.cols <= found.weight.cols;
    return inside ? &found : nullptr;
  }

  AnnouncedFactor<Format> announced;
  WaitingFactor<Format> waiting;

 private:
  std::map<const BFloat16*, RoundedWeight<Format>> weights_;
};

/// Like Cuda, but the products x W and d_y W^T have factors in the eight bits of a format. The gradients of
/// weights, attention and everything else are computed as on Cuda, and so are products whose sizes are not
/// multiples of 16. Throws NoDevice if the GPU's compute capability is too low.
template <class F>
struct EightBitProducts : Cuda {
  using Format = F;
  static constexpr bool rounds_output_matrix = false;  ///< Whether logits have such factors, too.

  EightBitProducts() {
    if (const int there = stream().compute_capability(); there < Format::capability) {
      const auto text = [](int capability) {
        return std::to_string(capability / 10) + "." + std::to_string(capability % 10);
      };
      throw NoDevice(std::string("products in ") + Format::name + " need a GPU of compute capability " +
                     text(Format::capability) + " or higher, and " + stream().device_name() + " has " +
                     text(there) + "; use a program without " + Format::suffix +
                     " in its name, which computes in bf16");
    }
  }

  /// Shared by copies of the device.
  std::shared_ptr<RoundedWeightTable<Format>> rounded_weights =
      std::make_shared<RoundedWeightTable<Format>>();
};

/// Whether D is such a device.
template <class D>
concept MultipliesInEightBits =
    requires { typename D::Format; } && std::derived_from<D, EightBitProducts<typename D::Format>>;

/// A product of x with some columns of a weight: c = x W or c = x W^T.
struct WeightProduct {
  Matrix<const BFloat16> x;
  FactorKind kind;     ///< Of x.
  bool transposed;     ///< W^T
  Index first, count;  ///< Columns of the weight.
  Output<BFloat16> c;
  const BFloat16* bias;
  bool relu;
  bool is_rounded;  ///< Whether x has already been rounded into the weight's other_factor.
};

/// Whether every row starts at a multiple of 16 bytes and has a multiple of 16 elements.
inline bool suits_eight_bits(Matrix<const BFloat16> m) {
  return m.cols % factor_pack == 0 && has_whole_packs<pack_size<BFloat16>>(m);
}

/// Announces that the next primitive to write `factor` writes all of it, and that the first product with a
/// weight after that is the one of `factor` and `weight`. The primitive can then round the factor as well.
template <class Format>
void expect_product(EightBitProducts<Format>& device, Matrix<const BFloat16> factor,
                    Matrix<const BFloat16> weight) {
  const RoundedWeight<Format>* const w = device.rounded_weights->find(weight);
  const bool suits = w != nullptr && suits_eight_bits(factor) && factor.is_contiguous() &&
                     factor.rows % factor_pack == 0 && factor.rows <= w->max_rows;
  device.rounded_weights->announced = suits ? AnnouncedFactor<Format>{factor, w} : AnnouncedFactor<Format>{};
}

/// Discards a factor that waits for its product, since its memory is about to be overwritten.
template <class Format>
void discard_waiting(EightBitProducts<Format>& device) {
  auto& waiting = device.rounded_weights->waiting;
  if (waiting.weight != nullptr) Format::discard(device.stream(), *waiting.weight, waiting.kind);
  waiting = {};
}

/// The rounding of `made` by the kernel that is about to store it in packs of N; off if `made` has not been
/// announced.
template <FactorKind Kind, int N, PackOrder Order, class Format>
auto rounding_of(EightBitProducts<Format>& device, Matrix<const BFloat16> made) {
  using Rounding = typename Format::template Rounding<Kind>;
  if constexpr (N == 1 || (Rounding::whole_rows && Order != PackOrder::rows)) {
    return NoRounding{};
  } else {
    const AnnouncedFactor<Format> announced = device.rounded_weights->announced;
    if (!announced.is(made)) return Rounding{};
    discard_waiting(device);
    device.rounded_weights->announced = {};
    device.rounded_weights->waiting = {announced, Kind};
    return Format::template rounding<Kind>(*announced.weight, made);
  }
}

/// Before a product of x and some columns of a weight: whether x waits for it, already rounded.
template <class Format>
bool take_waiting(EightBitProducts<Format>& device, const RoundedWeight<Format>& w, Matrix<const BFloat16> x,
                  FactorKind kind) {
  auto& announced = device.rounded_weights->announced;
  auto& waiting = device.rounded_weights->waiting;
  if (announced.weight == &w && announced.is(x)) announced = {};  // no kernel has rounded it
  if (waiting.weight == &w && waiting.is(x) && waiting.kind == kind) {
    waiting = {};
    return true;
  }
  discard_waiting(device);
  return false;
}

/// If b is a rounded weight, rounds a and multiplies in eight bits. This is the only place that decides which
/// products do.
template <class Format, class A>
requires(std::same_as<A, Unactivated> || std::same_as<A, ReLU>)
void gemm(EightBitProducts<Format>& device, Operand<BFloat16> a, Operand<BFloat16> b, Output<BFloat16> c,
          Epilogue<BFloat16, A> epilogue) {
  assert(a.rows() == c.matrix.rows && b.cols() == c.matrix.cols && a.cols() == b.rows());
  const RoundedWeight<Format>* const w = a.transposed ? nullptr : device.rounded_weights->find(b.matrix);
  const Matrix<const BFloat16> x = a.matrix;
  const Index first = w == nullptr ? 0 : b.matrix.data - w->weight.data;
  const bool whole = suits_eight_bits(x) && suits_eight_bits(c.matrix) &&
                     (!c.adds() || suits_eight_bits(c.addend)) && x.rows % factor_pack == 0 &&
                     first % factor_pack == 0;
  if (w == nullptr || !whole || x.rows > w->max_rows) {
    gemm(static_cast<Cuda&>(device), a, b, c, epilogue);
    return;
  }
  const FactorKind kind = w->multiplied_by(b.transposed);
  const bool is_rounded = take_waiting(device, *w, x, kind);
  Format::multiply(
      device, *w,
      {x, kind, b.transposed, first, b.matrix.cols, c, epilogue.bias, std::same_as<A, ReLU>, is_rounded});
}
template <class Format>
void gemm(EightBitProducts<Format>& device, Operand<BFloat16> a, Operand<BFloat16> b, Output<BFloat16> c) {
  gemm(device, a, b, c, Epilogue<BFloat16, Unactivated>{});
}
template <class Format>
void gemm(EightBitProducts<Format>& device, Operand<BFloat16> a, Operand<BFloat16> b, Output<float> c) {
  gemm(static_cast<Cuda&>(device), a, b, c);
}

}  // namespace lnfree::cuda

namespace lnfree {

/// On devices that multiply in eight bits: each weight in both layouts, if its sizes are multiples of 16.
template <class Device>
requires cuda::MultipliesInEightBits<Device>
class RoundedWeights<Device> {
  using Format = typename Device::Format;

 public:
  RoundedWeights() = default;
  RoundedWeights(const RoundedWeights&) = delete;
  RoundedWeights& operator=(const RoundedWeights&) = delete;
  ~RoundedWeights() {
    if (table_ == nullptr) return;
    for (const cuda::RoundedWeight<Format>& weight : rounded_) table_->remove(weight);
  }

  /// The stored weights, (in, out) each.
  using Weights = std::vector<Matrix<const BFloat16>>;

  /// Reserves memory for products of up to `rows` rows with these weights.
  void plan(Arena& arena, const Weights& weights, Index rows) {
    rounded_.clear();
    add(arena, weights, rows, false);
  }
  /// Call it after plan(): the same for the output matrix (V, C), if the device rounds it.
  void plan_output_matrix(Arena& arena, Matrix<const BFloat16> matrix, Index rows) {
    if constexpr (Device::rounds_output_matrix) add(arena, {matrix}, rows, true);
  }

  /// Call it before a pass: rounds the weights if `version` differs from the last call's.
  void update(Device& device, std::uint64_t version) {
    if (version_ == version) return;
    version_ = version;
    table_ = device.rounded_weights;
    for (const cuda::RoundedWeight<Format>& weight : rounded_) {
      table_->add(weight);
      Format::round(device.stream(), weight);
    }
  }

 private:
  /// Adds weights whose products share the memory of their other factor.
  void add(Arena& arena, const Weights& weights, Index rows, bool are_output_matrices) {
    const std::size_t first = rounded_.size();
    Index widest = 0;
    for (const Matrix<const BFloat16>& weight : weights) {
      const Index larger = std::max(weight.rows, weight.cols);
      if (weight.rows % cuda::factor_pack != 0 || weight.cols % cuda::factor_pack != 0 ||
          larger > Format::max_depth)
        continue;
      widest = std::max(widest, larger);
      rounded_.push_back(
          {weight, Format::plan(arena, weight.rows, weight.cols), nullptr, rows, are_output_matrices});
    }
    void* const other_factor = arena.take<std::uint8_t>(Format::factor_bytes(rows, widest));
    for (std::size_t i = first; i < rounded_.size(); ++i) rounded_[i].other_factor = other_factor;
  }

  std::vector<cuda::RoundedWeight<Format>> rounded_;
  std::shared_ptr<cuda::RoundedWeightTable<Format>> table_;  // where they are; null before the first update
  std::optional<std::uint64_t> version_;                     // of the weights they were rounded from
};

}  // namespace lnfree
