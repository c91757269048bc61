#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string>

#include <lnfree/core/concepts.hpp>
#include <lnfree/core/macros.hpp>
#include <lnfree/core/random.hpp>
#include <lnfree/core/tensor.hpp>
#include <lnfree/norm/call.hpp>

/// The contract between the mathematics in nn/ and a device.
///
/// A device is a tag type (Cpu, Reference<double>) and, in the tag's own namespace, the functions below, each
/// in the file of the same name in the device's folder. They are found by their first argument, the device,
/// so a new device is a new folder and nothing else. The tag names two types and a number:
///
///   Scalar        what activations and the weights of a product are stored in
///   Accumulator   what sums, statistics, gradients of parameters, master weights and optimizer state are
///                 stored in
///   logits_bytes  how much memory the logits that are made at a time may take
///
/// Rules for all of them: matrices are row-major views of device memory; results are left where an Output
/// says, overwriting or adding to what is there; nothing is allocated; the result for given inputs, device
/// and thread count is the same bit for bit, so nothing is summed in an order left to chance. Arguments do
/// not overlap except where said.
namespace lnfree {

/// What the attention hands out when a model observes its heads.
template <class A>
struct RowEntropies {
  A* rows;  ///< (B, H, T): the entropy of each query in nats, not finite where one of its scores is not.
};

/// The same with the largest score of each query.
template <class A>
struct RowScores : RowEntropies<A> {
  A* max_scores;  ///< (B, H, T), of the scores that the query sees.
};

/// Whether the attention is asked for the largest scores, too.
template <class E>
concept HasMaxScores = requires(E entropies) { entropies.max_scores; };

/// What the attention's backward pass takes in when entropies enter what is minimized.
template <class A>
struct EntropyGradients {
  const A* rows;    ///< (B, H, T), as RowEntropies had them.
  const A* d_rows;  ///< (B, H, T), the gradient of each.
};

/// In place of either: there are no entropies, and the code for them is not compiled.
struct Unobserved {};

/// A penalty on entropies far from a head's threshold, in nats: for deviation e = H_i - threshold, e^2 where
/// |e| > margin, else 0.
struct EntropyPenalty {
  double max_entropy;  ///< Thresholds are learned as shares of it.
  /// How far an entropy may lie from its threshold without a penalty.
  double margin;
  double scale;  ///< Of the gradients: that of what is minimized by the sum of all penalties.
};

/// A device's tag has the types that it computes in, and how many bytes of logits it wants at a time.
template <class D>
concept HasTypes = std::floating_point<typename D::Accumulator> && requires {
  typename D::Scalar;
  { D::logits_bytes } -> std::convertible_to<std::int64_t>;
};

/// device.hpp — memory of the device.
template <class D>
concept HasMemory = requires(D& device, void* p, const void* q, std::size_t bytes) {
  {
    allocate(device, bytes)
  } -> std::same_as<void*>;  // 64-byte aligned; throws Error when there is too little
  deallocate(device, p);
  fill_zero(device, p, bytes);
  copy_to_device(device, p, q, bytes);
  copy_to_host(device, p, q, bytes);
  synchronize(device);                                  // waits until all that was asked for is done
  { free_bytes(device) } -> std::same_as<std::size_t>;  // about what allocate could still give
};

/// device.hpp — which device it is, in words for people.
template <class D>
concept HasName = requires(D& device) {
  { device_name(device) } -> std::same_as<std::string>;
};

/// device.hpp, only where the two types differ — rounds `count` master weights to the working ones.
template <class D>
concept HasConversion = std::same_as<typename D::Scalar, typename D::Accumulator> ||
                        requires(D& device, Index count, const typename D::Accumulator* from,
                                 typename D::Scalar* to) { convert(device, count, from, to); };

/// gemm.hpp — C = A B, or C = A B + D where the Output has a D to add; A and B as stored or transposed.
template <class D>
concept HasGemm = requires(D& device, Operand<typename D::Scalar> a, Operand<typename D::Scalar> b,
                           Output<typename D::Scalar> c, Output<typename D::Accumulator> d_weight) {
  gemm(device, a, b, c);
  gemm(device, a, b, d_weight);
};

/// What a product may be followed by before it is stored: a bias, the same for each row, or nullptr; then an
/// activation, or Unactivated.
template <class S, class A>
struct Epilogue {
  const S* bias = nullptr;  ///< (columns of the product)
};
struct Unactivated {};

/// gemm.hpp, where the device can — C = A(A B + bias), or C = A(A B + D + bias). Elsewhere bias and
/// activation are passes of their own.
template <class D, class A>
concept HasEpilogue = requires(D& device, Operand<typename D::Scalar> a, Operand<typename D::Scalar> b,
                               Output<typename D::Scalar> c,
                               Epilogue<typename D::Scalar, A> epilogue) { gemm(device, a, b, c, epilogue); };

/// gemm.hpp, on devices that round factors (core/rounded_weights.hpp) — announces that one primitive will
/// write `factor`, and that the first product with a weight after it multiplies it by `weight` or its
/// transpose. That primitive may then round it as well. The results are the same bits without the
/// announcement.
template <class D>
concept ExpectsProducts =
    requires(D& device, Matrix<const typename D::Scalar> factor, Matrix<const typename D::Scalar> weight) {
      expect_product(device, factor, weight);
    };

/// bias.hpp — y_ij += b_j, and its gradient d_b_j += sum_i d_y_ij.
template <class D>
concept HasBias = requires(D& device, Matrix<typename D::Scalar> y, Matrix<const typename D::Scalar> d_y,
                           const typename D::Scalar* bias, typename D::Accumulator* d_bias) {
  bias_forward(device, y, bias);
  bias_backward(device, d_y, d_bias);
};

/// norm.hpp — y = N::value of every element, given what the norm makes of its row's mean and variance, which
/// is kept in `rows` (null for a norm that does not look at them), and the parameters that the norm declares.
/// Backward: d_x, and the gradients of the parameters += .
template <class D, class N>
concept HasNorm =
    requires(D& device, N norm, Matrix<const typename D::Scalar> x,
             NormPointers<const typename D::Scalar, N> parameters, Output<typename D::Scalar> y,
             NormRow<typename D::Accumulator>* rows, Matrix<const typename D::Scalar> d_y,
             Output<typename D::Scalar> d_x, NormPointers<typename D::Accumulator, N> d_parameters) {
      norm_forward(device, norm, x, parameters, y, rows);
      norm_backward(device, norm, x, parameters, rows, d_y, d_x, d_parameters);
    };

/// activation.hpp — y = A::value(x) element by element, y may be x. Backward, in place: d_y becomes d_x = d_y
/// A'(saved), and for a learnable activation d_parameter += sum d_y dA/dp. The parameter pointers are null
/// for a fixed one.
template <class D, class A>
concept HasActivation =
    requires(D& device, A activation, Matrix<const typename D::Scalar> x, const typename D::Scalar* parameter,
             Matrix<typename D::Scalar> y, typename D::Accumulator* d_parameter) {
      activation_forward(device, activation, x, parameter, y);
      activation_backward(device, activation, x, parameter, y, d_parameter);
    };

/// attention.hpp — causal softmax attention over packed heads (the paper's equations 2 and 7):
///
///   s_ij = q_i k_j / sqrt(head_dim) for j <= i,   a_i = softmax(s_i),   y_i = sum_j a_ij v_j
///
/// qkv (B T, 3 C) holds Q | K | V, y is (B T, C), log_sum (B, H, T) keeps ln sum_j exp(s_ij) for the backward
/// pass. Entropies come out of the same pass, H_i = ln l - u / l with l = sum exp(s - max), u = sum exp(s -
/// max) (s - max), which keeps its precision where scores are large. With shape.first the forward pass
/// computes the queries from there on, and leaves anything in the rows of those before. Gradients of
/// entropies go into those of the scores, dH_i / ds_ij = -a_ij (ln a_ij + H_i). attention_workspace says how
/// many Accumulators of scratch memory both passes need.
template <class D>
concept HasAttention = requires(
    D& device, AttentionShape shape, Matrix<const typename D::Scalar> qkv, Matrix<typename D::Scalar> y,
    typename D::Accumulator* log_sum, RowEntropies<typename D::Accumulator> entropies,
    RowScores<typename D::Accumulator> scores, EntropyGradients<typename D::Accumulator> gradients,
    Matrix<typename D::Scalar> d_qkv, typename D::Accumulator* workspace) {
  { attention_workspace(device, shape) } -> std::convertible_to<Index>;
  attention_forward(device, shape, qkv, y, log_sum, workspace, Unobserved{});
  attention_forward(device, shape, qkv, y, log_sum, workspace, entropies);
  attention_forward(device, shape, qkv, y, log_sum, workspace, scores);
  attention_backward(device, shape, qkv, y, log_sum, y, d_qkv, workspace, Unobserved{});
  attention_backward(device, shape, qkv, y, log_sum, y, d_qkv, workspace, gradients);
};

/// entropy.hpp — over entropies, a row of T queries for each head of each sequence (and layer): the sum of
/// each row's finite entropies, and how many those are. The penalty of row r is that of head r mod heads,
/// whose threshold is thresholds[r mod heads] penalty.max_entropy: sums_r = sum_i penalty(H_ri), d_rows =
/// scale times its derivative, and d_thresholds += . An entropy that is not finite has none.
template <class D>
concept HasEntropy = requires(D& device, Matrix<const typename D::Accumulator> rows,
                              typename D::Accumulator* sums, std::int32_t* finite_rows,
                              EntropyPenalty penalty, int heads, const typename D::Scalar* thresholds,
                              Matrix<typename D::Accumulator> d_rows, typename D::Accumulator* d_thresholds) {
  entropy_sums(device, rows, sums, finite_rows);
  entropy_penalty(device, penalty, heads, rows, thresholds, sums, d_rows, d_thresholds);
};

/// rotary.hpp — turns, in place, the first `dims` channels of each head of Q and K by the position t: the
/// pair (c, c + dims/2) by the angle t 10000^(-2c / dims), or by its negative (Su et al., 2021; paired as in
/// GPT-NeoX). Rows before shape.first are left alone.
template <class D>
concept HasRotary = requires(D& device, AttentionShape shape, int dims, Matrix<typename D::Scalar> qkv,
                             bool inverse) { rotary(device, shape, dims, qkv, inverse); };

/// statistics.hpp — sums_j = sum_i x_ij^2, and the number of elements that are 0.
template <class D>
concept HasStatistics =
    requires(D& device, Matrix<const typename D::Scalar> x, typename D::Accumulator* sums) {
      column_squares(device, x, sums);
      { count_zeros(device, x) } -> std::same_as<Index>;
    };

/// embedding.hpp — x_(b,t) = token_table[token] + position_table[t], without the latter where that table is
/// empty; tokens (B T) lie in device memory and are below the vocabulary size. Backward: the rows' gradients
/// are added in a fixed order.
template <class D>
concept HasEmbedding =
    requires(D& device, BatchShape shape, const std::int32_t* tokens, Matrix<const typename D::Scalar> table,
             Matrix<typename D::Scalar> x, Matrix<const typename D::Scalar> d_x,
             Matrix<typename D::Accumulator> d_table) {
      embedding_forward(device, shape, tokens, table, table, x);
      embedding_backward(device, shape, tokens, d_x, d_table, d_table);
    };

/// dropout.hpp — each element is zeroed with probability `rate`, else divided by 1 - rate. Element i is
/// dropped where the i-th 32-bit number of `random` is below rate 2^32, so the same call on the gradient is
/// the backward pass.
template <class D>
concept HasDropout = requires(D& device, Matrix<typename D::Scalar> x, double rate, Philox random) {
  dropout(device, x, rate, random);
};

/// cross_entropy.hpp — losses_i = ln sum_j exp(logits_ij) - logits_i,target for each row, 0 where the target
/// is negative. The second form also overwrites the logits with their gradient, gradient_scale
/// (softmax(logits_i) - onehot(target)).
template <class D>
concept HasCrossEntropy =
    requires(D& device, Matrix<const typename D::Scalar> logits, Matrix<typename D::Scalar> overwritten,
             const std::int32_t* targets, typename D::Accumulator* losses, double gradient_scale) {
      cross_entropy_forward(device, logits, targets, losses);
      cross_entropy_forward_backward(device, overwritten, targets, losses, gradient_scale);
    };

/// A function of one element for the concept below, as a user might write it.
struct SampleElement {
  template <class T>
  LNFREE_HOST_DEVICE T operator()(T& x, T y) const {
    x += y;
    return x;
  }
};

/// elementwise.hpp — a function of the elements of arrays of `count` numbers each, however the numbers are
/// stored. for_each_element calls f(a_i, b_i, ...) for every i and stores what f leaves in the arguments of
/// arrays that are not const; sum_of gives sum_i f(a_i, b_i, ...), summed in double, to the host. f is
/// stateless or holds numbers only, its operator() a template marked LNFREE_HOST_DEVICE; it computes in
/// Accumulator. Arrays may be the same memory where f leaves the same in both. What no other primitive does
/// can be written with these two: optimizers, penalties, averages of weights.
template <class D>
concept HasElementwise =
    requires(D& device, Index count, typename D::Accumulator* x, const typename D::Scalar* y) {
      for_each_element(device, count, SampleElement{}, x, y);
      { sum_of(device, count, SampleElement{}, x, y) } -> std::same_as<double>;
    };

/// A device: its types, and every primitive that does not depend on a policy.
template <class D>
concept Device = HasTypes<D> && HasMemory<D> && HasName<D> && HasConversion<D> && HasGemm<D> && HasBias<D> &&
                 HasAttention<D> && HasEntropy<D> && HasRotary<D> && HasEmbedding<D> && HasDropout<D> &&
                 HasCrossEntropy<D> && HasElementwise<D> && HasStatistics<D>;

}  // namespace lnfree
