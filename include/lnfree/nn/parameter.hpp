#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <lnfree/core/error.hpp>
#include <lnfree/core/memory.hpp>
#include <lnfree/core/random.hpp>
#include <lnfree/core/tensor.hpp>

namespace lnfree {

/// What a parameter is to the optimizer: weight decay is chosen by kind.
enum class ParameterKind {
  weight,     ///< Matrices between activations.
  embedding,  ///< Tables of tokens and positions, and the output matrix.
  slope,      ///< Learnable scalars of activations.
  bias,       ///< Biases of projections.
  norm,       ///< Learned parameters of norms.
  threshold,  ///< Thresholds of the entropy-guided loss.
  setting     ///< Numbers that are set, not learned: no gradient, no decay, ignored by clipping.
};
/// All kinds, in the order of their memory.
inline constexpr std::array parameter_kinds{
    ParameterKind::weight, ParameterKind::embedding, ParameterKind::slope,  ParameterKind::bias,
    ParameterKind::norm,   ParameterKind::threshold, ParameterKind::setting};

/// Whether parameters of this kind are matrices, which start from random numbers; the others start from a
/// constant.
constexpr bool is_matrix(ParameterKind kind) {
  return kind == ParameterKind::weight || kind == ParameterKind::embedding;
}

/// A tensor's name in checkpoints, and its shape.
struct TensorShape {
  std::string name;          ///< The name in checkpoints.
  std::vector<Index> shape;  ///< Its sizes.
};

/// One learnable tensor. Memory belongs to its ParameterSet.
template <class Device>
struct Parameter {
  using Scalar = typename Device::Scalar;
  using Accumulator = typename Device::Accumulator;

  std::string name;  ///< As in a Hugging Face GPT-2 checkpoint, without the prefix "transformer.".
  /// Its shape, of one or two dimensions.
  std::vector<Index> shape;
  /// Its kind, which decides whether it decays.
  ParameterKind kind = ParameterKind::weight;
  double initial = 0;  ///< Its initial value; weights are drawn at random instead.
  /// Number of learned elements; the rest, as of a query-key bias, stays zero.
  Index trainable = 0;
  std::string starts_as;  ///< The parameter whose values it starts from if a weights file lacks it; empty:
                          ///< its initial value.
  Index parts = 1;        ///< Matrices of equal size side by side in it: 3 in Q | K | V.

  Scalar* value = nullptr;  ///< What the forward pass reads.
  Accumulator* master =
      nullptr;  ///< What the optimizer updates; the same as value if the types are the same.
  /// The gradient of the loss, on the device.
  Accumulator* gradient = nullptr;
  Index offset = 0;  ///< Its first element in the set's arrays and in the optimizer's state.

  /// Number of elements.
  Index size() const {
    Index size = 1;
    for (const Index extent : shape) size *= extent;
    return size;
  }
  /// Its value, if it has two dimensions.
  Matrix<const Scalar> value_matrix() const { return {value, shape[0], shape[1]}; }
  /// Its gradient, if it has two dimensions.
  Matrix<Accumulator> gradient_matrix() const { return {gradient, shape[0], shape[1]}; }
};

/// All parameters of a model, each kind in one contiguous range, so that the optimizer works on a few long
/// arrays.
template <class Device>
class ParameterSet {
 public:
  using Scalar = typename Device::Scalar;
  using Accumulator = typename Device::Accumulator;
  /// One parameter.
  using Element = Parameter<Device>;
  /// Whether the optimizer updates weights in higher precision than they are stored.
  static constexpr bool has_master_copy = !std::is_same_v<Scalar, Accumulator>;

  /// The elements of all parameters of one kind.
  struct Range {
    /// The kind of the parameters.
    ParameterKind kind;
    /// The first element in the long array.
    Index begin;
    /// The number of elements.
    Index count;
  };

  ParameterSet() = default;
  ParameterSet(const ParameterSet&) = delete;
  ParameterSet& operator=(const ParameterSet&) = delete;

  /// Adds a parameter; the reference stays valid for the life of the set.
  Element& add(std::string name, std::vector<Index> shape, ParameterKind kind, double initial = 0) {
    Element& parameter = parameters_.emplace_back();
    parameter.name = std::move(name);
    parameter.shape = std::move(shape);
    parameter.kind = kind;
    parameter.initial = initial;
    parameter.trainable = kind == ParameterKind::setting ? 0 : parameter.size();
    size_ += padded(parameter);
    return parameter;
  }

  /// The parameter of that name, added if there is none yet: layers that ask for the same name share it.
  Element& find_or_add(const std::string& name, std::vector<Index> shape, ParameterKind kind,
                       double initial) {
    const auto found = std::find_if(parameters_.begin(), parameters_.end(),
                                    [&](const Element& parameter) { return parameter.name == name; });
    return found != parameters_.end() ? *found : add(name, std::move(shape), kind, initial);
  }

  /// Allocates all parameters, zeroed, and gradients if requested.
  void allocate(Device& device, bool with_gradients) {
    Index end = 0;
    for (const ParameterKind kind : parameter_kinds) {
      const Index begin = end;
      for (Element& parameter : parameters_) {
        if (parameter.kind != kind) continue;
        parameter.offset = end;
        end += padded(parameter);
      }
      ranges_.push_back({kind, begin, end - begin});
    }
    values_ = Buffer<Device>(device, bytes<Scalar>(size_));
    if constexpr (has_master_copy) masters_ = Buffer<Device>(device, bytes<Accumulator>(size_));
    if (with_gradients) gradients_ = Buffer<Device>(device, gradient_bytes());
    for (Element& parameter : parameters_) {
      parameter.value = values() + parameter.offset;
      parameter.master = masters() + parameter.offset;
      if (with_gradients) parameter.gradient = gradients() + parameter.offset;
    }
  }

  /// Draws weights from N(0, std) and sets the others to their constants. A parameter's values depend only on
  /// the seed and its name, so configurations that share a tensor start from the same values, on every
  /// device.
  void initialize(Device& device, std::uint64_t seed, double std) {
    // Piece by piece, because a whole embedding would be the largest allocation of a small run.
    constexpr Index piece = Index{1} << 18;
    std::vector<Accumulator> host;
    for (Element& parameter : parameters_) {
      const Philox random(seed, stream_of(parameter.name));
      for (Index first = 0; first < parameter.size(); first += piece) {
        const Index count = std::min(piece, parameter.size() - first);
        host.assign(static_cast<std::size_t>(count), static_cast<Accumulator>(parameter.initial));
        if (is_matrix(parameter.kind)) fill_normal(host.data(), count, std, random, first);
        write(device, parameter, first, count, host.data());
      }
    }
  }

  /// Copies size() elements from the host into a parameter.
  void write(Device& device, Element& parameter, const Accumulator* from) {
    write(device, parameter, 0, parameter.size(), from);
  }

  /// Copies `count` elements from the host into a parameter, starting at its element `first`.
  void write(Device& device, Element& parameter, Index first, Index count, const Accumulator* from) {
    has_values_ = true;
    ++writes_;
    copy_to_device(device, parameter.master + first, from, bytes<Accumulator>(count));
    if constexpr (has_master_copy) convert(device, count, parameter.master + first, parameter.value + first);
  }

  /// Throws Error if every parameter is still zero, as after allocate(): such a model cannot learn, since all
  /// its gradients are zero, too.
  void require_values(Device& device) {
    if (has_values_) return;
    // Nothing was written through this set, but its pointers are public.
    const auto is_set = [&](const Element& parameter) {
      std::vector<std::byte> host(static_cast<std::size_t>(parameter.size()) * sizeof(Scalar));
      copy_to_host(device, host.data(), parameter.value, host.size());
      return std::any_of(host.begin(), host.end(), [](std::byte x) { return x != std::byte{}; });
    };
    has_values_ = std::any_of(parameters_.begin(), parameters_.end(), is_set);
    if (!has_values_) {
      throw Error(
          "the model's weights are all zero, and training cannot change them; call its initialize(), "
          "load_weights() or load_checkpoint() first");
    }
  }

  /// Copies a parameter to the host.
  std::vector<Accumulator> read(Device& device, const Element& parameter) const {
    return read(device, parameter, masters());
  }

  /// Copies the part of `parameter` from an array laid out like this set: the gradients or the optimizer's
  /// state.
  std::vector<Accumulator> read(Device& device, const Element& parameter, const Accumulator* array) const {
    std::vector<Accumulator> host(static_cast<std::size_t>(parameter.size()));
    copy_to_host(device, host.data(), array + parameter.offset, host.size() * sizeof(Accumulator));
    return host;
  }

  /// Sets all gradients to zero.
  void zero_gradients(Device& device) { fill_zero(device, gradients(), gradients_.bytes()); }

  /// Each parameter, in the order of its creation.
  std::deque<Element>& all() { return parameters_; }
  /// Each parameter, in the order of its creation.
  const std::deque<Element>& all() const { return parameters_; }
  /// The values of all matrices of `kind`.
  std::vector<Matrix<const Scalar>> matrices(ParameterKind kind) const {
    std::vector<Matrix<const Scalar>> matrices;
    for (const Element& parameter : parameters_) {
      if (parameter.kind == kind) matrices.push_back(parameter.value_matrix());
    }
    return matrices;
  }
  /// The range of each kind.
  const std::vector<Range>& ranges() const { return ranges_; }

  /// The elements of all parameters of `kind`.
  const Range& range(ParameterKind kind) const {
    return *std::find_if(ranges_.begin(), ranges_.end(), [&](const Range& r) { return r.kind == kind; });
  }

  /// All values in one array, on the device.
  Scalar* values() const { return static_cast<Scalar*>(values_.data()); }
  /// All gradients in one array, on the device.
  Accumulator* gradients() const { return static_cast<Accumulator*>(gradients_.data()); }
  /// What the optimizer updates: master weights, or the values if there are none.
  Accumulator* masters() const {
    if constexpr (has_master_copy) {
      return static_cast<Accumulator*>(masters_.data());
    } else {
      return values();
    }
  }

  /// How often parameters were written: tells whether results computed from them are still valid.
  std::uint64_t writes() const { return writes_; }
  /// To be called by whoever wrote values by their pointers, not by write().
  void count_write() { ++writes_; }

  /// Elements of each of the set's arrays, padding included.
  Index size() const { return size_; }

  /// Number of learned elements in the model.
  Index trainable() const {
    Index count = 0;
    for (const Element& parameter : parameters_) count += parameter.trainable;
    return count;
  }

  /// Bytes that allocate() takes for the values, master weights included.
  std::size_t value_bytes() const {
    return bytes<Scalar>(size_) + (has_master_copy ? bytes<Accumulator>(size_) : 0);
  }
  /// Bytes of all gradients.
  std::size_t gradient_bytes() const { return bytes<Accumulator>(size_); }

 private:
  template <class T>
  static std::size_t bytes(Index count) {
    return static_cast<std::size_t>(count) * sizeof(T);
  }

  /// Elements of a parameter and the padding after it: each tensor starts on a cache line.
  static Index padded(const Element& parameter) {
    constexpr Index alignment = 16;
    return (parameter.size() + alignment - 1) / alignment * alignment;
  }

  std::deque<Element> parameters_;
  std::vector<Range> ranges_;
  Index size_ = 0;
  bool has_values_ = false;  // whether anything was written
  std::uint64_t writes_ = 0;
  Buffer<Device> values_, masters_, gradients_;
};

}  // namespace lnfree
