#pragma once

#include <concepts>
#include <cstdint>
#include <string_view>
#include <type_traits>
#include <vector>

#include <lnfree/core/config.hpp>
#include <lnfree/core/dual.hpp>
#include <lnfree/core/policies.hpp>
#include <lnfree/core/tensor.hpp>

/// What the template arguments of Decoder must offer. The concepts are small and each is checked by a
/// static_assert of its own, so that a mistake reads as one sentence.
namespace lnfree {

struct Identity;

/// Has `static constexpr std::string_view name`, which goes into config.json and messages.
template <class P>
concept Named = requires {
  { P::name } -> std::convertible_to<std::string_view>;
};

/// An activation without parameters: value(x), and derivative of what it says it saves.
template <class A>
concept FixedActivation = requires(double x) {
  { A::value(x) } -> std::same_as<double>;
  { A::derivative(x) } -> std::same_as<double>;
};

/// An activation with one learnable scalar p: value(x, p), derivative(x, p), parameter_derivative(x, p), and
/// the parameter's scope, parameter_name and initial value.
template <class A>
concept LearnableActivation = requires(double x, double p) {
  { A::value(x, p) } -> std::same_as<double>;
  { A::derivative(x, p) } -> std::same_as<double>;
  { A::parameter_derivative(x, p) } -> std::same_as<double>;
  { A::scope } -> std::convertible_to<Scope>;
  { A::parameter_name } -> std::convertible_to<std::string_view>;
  { A::initial } -> std::convertible_to<double>;
};

/// What a layer has between its two matrices; says of which of its ends the derivative is taken (`saved`).
template <class A>
concept Activation = Named<A> &&(FixedActivation<A> || LearnableActivation<A>)&&requires {
  { A::saved } -> std::convertible_to<Saved>;
};

/// What a decoder's layers have between the two matrices of their feed-forward networks: one activation, or
/// one in the first `count` layers and another in the rest (Layerwise). No slope can be shared by layers of
/// two kinds.
template <class A>
concept ActivationOfLayers = Activation<A> ||
    (Named<A>&& Activation<typename A::First>&& Activation<typename A::Rest>&& requires {
      { A::count } -> std::convertible_to<int>;
    });

/// The learnable parameters that a norm declares in `static constexpr std::array parameters`.
template <class N>
inline constexpr int norm_parameter_count = [] {
  if constexpr (requires { N::parameters.size(); }) {
    return static_cast<int>(N::parameters.size());
  } else {
    return 0;
  }
}();

/// `count` numbers as a policy takes them, or none.
template <class T, int Count>
using NormNumbers = const T (&)[Count > 0 ? Count : 1];

/// A norm's value of x, with the row's statistics if it has any, and with its parameters if it has any.
template <class N, class T>
concept HasNormValue = requires(T x, RowStatistics<T> row, NormNumbers<T, norm_parameter_count<N>> p) {
  { N::value(x, row, p) } -> std::same_as<T>;
} || requires(T x, RowStatistics<T> row) {
  { N::value(x, row) } -> std::same_as<T>;
  requires norm_parameter_count<N> == 0;
};
template <class N, class T>
concept HasPointwiseNormValue = requires(T x, NormNumbers<T, norm_parameter_count<N>> p) {
  { N::value(x, p) } -> std::same_as<T>;
  requires norm_parameter_count<N> > 0;
} || requires(T x) {
  { N::value(x) } -> std::same_as<T>;
  requires norm_parameter_count<N> == 0;
};

/// Whether a norm looks at the row as a whole: it has statistics(mean, variance).
template <class N>
concept HasRowStatistics = requires(double x) {
  { N::statistics(x, x) } -> std::same_as<RowStatistics<double>>;
};

/// A norm that maps each element of a row given two numbers of the row, statistics(mean, variance):
/// y = value(x, row) or, with parameters, value(x, row, p). Its derivatives are taken by computing with Dual.
template <class N>
concept RowNorm = HasRowStatistics<N> && HasNormValue<N, double> && HasNormValue<N, Dual<double>>;

/// A norm that knows nothing of the row: y = value(x) or value(x, p).
template <class N>
concept PointwiseNorm =
    !HasRowStatistics<N> && HasPointwiseNormValue<N, double> && HasPointwiseNormValue<N, Dual<double>>;

/// What stands in front of a sublayer: nothing (Identity), or a norm of one of the two kinds.
template <class N>
concept Norm = Named<N> &&(std::same_as<N, Identity> || RowNorm<N> || PointwiseNorm<N>);

/// Says at compile time what the passes shall hand out for it to record: head entropies, statistics of the
/// residual stream and of the hidden layers. Built for a number of layers and of heads; reset() forgets what
/// was recorded.
template <class O>
concept Observer = std::constructible_from<O, int, int> && requires(O observer) {
  { O::observes_entropy } -> std::convertible_to<bool>;
  { O::observes_stream } -> std::convertible_to<bool>;
  observer.reset();
};

/// An observer that observes entropies is handed those of a pass after it: for every head, (L, B, H), the sum
/// of its queries' entropies in nats, and how many of them are finite.
template <class O, class Accumulator>
concept RecordsEntropies =
    !O::observes_entropy ||
    requires(O observer, BatchShape shape, const Accumulator* sums, const std::int32_t* finite_rows) {
  observer.record(shape, sums, finite_rows);
};

/// An observer that observes the stream is handed every layer's part of a pass: the sums over the rows of
/// each channel's squares (C), and how many of the elements of its hidden layer are 0.
template <class O, class Accumulator>
concept RecordsLayers =
    !O::observes_stream || requires(O observer, const std::vector<Accumulator>& column_squares) {
  observer.record_layer(0, Index{}, column_squares, Index{}, Index{});
};

/// An observer that also adds a penalty on the entropies to what is minimized.
template <class O>
concept EntropyRegularizing = O::observes_entropy && requires(const O& observer) {
  observer.options().coefficient;
};

/// A device tag: the types it computes in, and how many bytes of logits it wants at a time. What else it must
/// offer is the list of primitives in backend/primitives.hpp.
template <class D>
concept Device = std::floating_point<typename D::Accumulator> && requires {
  typename D::Scalar;
  { D::logits_bytes } -> std::convertible_to<std::int64_t>;
};

/// What is true of a DecoderConfig that makes sense.
template <DecoderConfig C>
concept SizesArePositive =
    C.layers > 0 && C.heads > 0 && C.width > 0 && C.ffn_width > 0 && C.context > 0 && C.vocab_size > 0;

template <DecoderConfig C>
concept WidthIsAMultipleOfHeads = C.heads <= 0 || C.width % C.heads == 0;

template <DecoderConfig C>
concept PositionsCoverTheContext = C.position_rows() >= C.context;

template <DecoderConfig C>
concept RotaryDimsFitTheHead = C.heads <= 0 || (C.rotary_dims >= 0 && C.rotary_dims % 2 == 0 &&
                                                C.rotary_dims <= C.width / C.heads);

}  // namespace lnfree
