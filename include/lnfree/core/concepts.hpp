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

/// What the template arguments of Decoder must offer. The concepts are small and each has its own
/// static_assert, so that a mistake gives one readable sentence.
namespace lnfree {

struct Identity;

/// Has `static constexpr std::string_view name`, which goes into config.json and messages.
template <class P>
concept Named = requires {
  { P::name } -> std::convertible_to<std::string_view>;
};

/// An activation without parameters: value(x), and derivative() of whatever `saved` says it keeps.
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

/// An activation, fixed or learnable. `saved` says whether derivative() takes its input or its output.
template <class A>
concept Activation = Named<A> && (FixedActivation<A> || LearnableActivation<A>) && requires {
  { A::saved } -> std::convertible_to<Saved>;
};

/// The activation of a decoder's feed-forward networks: the same in every layer, or one in the layers that
/// has_first() selects and another in the rest (Layerwise). Layers with different activations cannot share a
/// slope.
template <class A>
concept ActivationOfLayers =
    Activation<A> || (Named<A> && Activation<typename A::First> && Activation<typename A::Rest> && requires {
      { A::has_first(0) } -> std::same_as<bool>;
    });

/// A norm that declares learnable parameters in `static constexpr std::array parameters`.
template <class N>
inline constexpr int norm_parameter_count = [] {
  if constexpr (requires { N::parameters.size(); }) {
    return static_cast<int>(N::parameters.size());
  } else {
    return 0;
  }
}();

/// `count` parameters in the form a policy takes them, or none.
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
/// What value() of a PointwiseNorm takes: an element, and its parameters where it has any.
template <class N, class T>
concept HasPointwiseNormValue = requires(T x, NormNumbers<T, norm_parameter_count<N>> p) {
  { N::value(x, p) } -> std::same_as<T>;
  requires norm_parameter_count<N> > 0;
} || requires(T x) {
  { N::value(x) } -> std::same_as<T>;
  requires norm_parameter_count<N> == 0;
};

/// Whether a norm depends on the whole row, that is, has statistics(mean, variance).
template <class N>
concept HasRowStatistics = requires(double x) {
  { N::statistics(x, x) } -> std::same_as<RowStatistics<double>>;
};

/// A norm that maps each element of a row given two numbers of the row, statistics(mean, variance):
/// y = value(x, row) or, with parameters, value(x, row, p). Its derivatives are computed with Dual.
template <class N>
concept RowNorm = HasRowStatistics<N> && HasNormValue<N, double> && HasNormValue<N, Dual<double>>;

/// A norm of each element by itself: y = value(x) or value(x, p).
template <class N>
concept PointwiseNorm =
    !HasRowStatistics<N> && HasPointwiseNormValue<N, double> && HasPointwiseNormValue<N, Dual<double>>;

/// The norm of a sublayer: none (Identity), or one of the two kinds.
template <class N>
concept Norm = Named<N> && (std::same_as<N, Identity> || RowNorm<N> || PointwiseNorm<N>);

/// Observes the passes of a model. It is constructed from the number of layers and of heads, and reset()
/// clears what it has gathered. It asks for data by the flags below; nothing else is computed or compiled for
/// it. An observer with a `name` and a member template report(f) appears in metrics.jsonl under that name:
/// report() calls f(series, value) for numbers, vectors of numbers and vectors of vectors. report(parameters,
/// device, f) does the same for an observer of the weights.
template <class O>
concept Observer = std::constructible_from<O, int, int> && requires(O observer) { observer.reset(); };

/// What an observer asks for; a flag that it does not declare is false.
template <class O>
struct Observes {
  /// Entropies of the heads, record().
  static constexpr bool entropy = requires { requires O::observes_entropy; };
  /// Squares of the residual stream, record_layer().
  static constexpr bool stream = requires { requires O::observes_stream; };
  /// Largest attention scores, record_scores().
  static constexpr bool scores = requires { requires O::observes_scores; };
  /// The residual stream, record_stream().
  static constexpr bool stream_values = requires { requires O::observes_stream_values; };
  /// Hidden layers, record_hidden().
  static constexpr bool hidden_values = requires { requires O::observes_hidden_values; };
  /// The loss of each token, record_losses().
  static constexpr bool losses = requires { requires O::observes_losses; };
  static constexpr bool logits = requires { requires O::observes_logits; };  ///< Logits, record_logits().
  /// Queries, keys and values, record_attention().
  static constexpr bool attention = requires { requires O::observes_attention; };
  /// The residual stream after each sublayer, record_part().
  static constexpr bool stream_parts = requires { requires O::observes_stream_parts; };

  /// Whether device memory has to be read during a pass.
  static constexpr bool during_the_pass =
      stream || stream_values || hidden_values || logits || attention || stream_parts;

  /// Whether it observes passes at all.
  static constexpr bool anything = during_the_pass || entropy || scores || losses;
};

/// observes_entropy: after a pass, for every head, (L, B, H), the sum of its queries' entropies in nats, and
/// how many of them are finite.
template <class O, class A>
concept RecordsEntropies = !Observes<O>::entropy || requires(O observer, BatchShape shape, const A* sums,
                                                             const std::int32_t* finite_rows) {
  observer.record(shape, sums, finite_rows);
};

/// observes_stream: for every layer the sums over the rows of each channel's squares (C), and how many of the
/// elements of its hidden layer are 0.
template <class O, class A>
concept RecordsLayers = !Observes<O>::stream || requires(O observer, const std::vector<A>& column_squares) {
  observer.record_layer(0, Index{}, column_squares, Index{}, Index{});
};

/// observes_scores: after a pass the largest attention score of every query, (L, B, H, T).
template <class O, class A>
concept RecordsScores = !Observes<O>::scores || requires(O observer, BatchShape shape, const A* max_scores) {
  observer.record_scores(shape, max_scores);
};

/// observes_stream_values: for every layer the residual stream after it, (B T, C).
template <class O, class A>
concept RecordsStream =
    !Observes<O>::stream_values ||
    requires(O observer, BatchShape shape, Matrix<const A> x) { observer.record_stream(0, shape, x); };

/// observes_hidden_values: for every layer the feed-forward network's hidden layer, (B T, ffn_width).
template <class O, class A>
concept RecordsHidden =
    !Observes<O>::hidden_values || requires(O observer, BatchShape shape, Matrix<const A> hidden) {
      observer.record_hidden(0, shape, hidden);
    };

/// observes_losses: after a pass the loss of every token and its target, (B T); tokens with a negative target
/// do not count.
template <class O, class A>
concept RecordsLosses = !Observes<O>::losses ||
                        requires(O observer, BatchShape shape, const A* losses, const std::int32_t* targets) {
                          observer.record_losses(shape, losses, targets);
                        };

/// observes_logits: the logits of rows from `first_row` on, (rows, V), some rows at a time, in order.
template <class O, class A>
concept RecordsLogits = !Observes<O>::logits || requires(O observer, Matrix<const A> logits) {
  observer.record_logits(Index{}, logits);
};

/// observes_attention: for every layer Q | K | V (B T, 3 C) as the scores are made from them, and ln sum_j
/// exp(s_ij) of each query (B, H, T). With s_ij = q_i k_j / sqrt(head_dim), that query's attention to j is
/// exp(s_ij - log_sum_i).
template <class O, class A>
concept RecordsAttention = !Observes<O>::attention || requires(O observer, AttentionShape shape,
                                                               Matrix<const A> qkv, const A* log_sums) {
  observer.record_attention(0, shape, qkv, log_sums);
};

/// observes_stream_parts: the residual stream (B T, C) after the embedding, as layer 0, and after each
/// addition of a sublayer's output. Layouts with a norm within the stream record only the embedding.
template <class O, class A>
concept RecordsParts =
    !Observes<O>::stream_parts || requires(O observer, BatchShape shape, Matrix<const A> x) {
      observer.record_part(0, StreamPart::embedding, shape, x);
    };

}  // namespace lnfree
