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
/// A device is a tag type, such as Cpu or Reference<double>, and the functions below in the namespace of that
/// type. Each function is in the file of the same name in the device's folder. The compiler finds them by
/// their first argument, the device, so a new device is a new folder and nothing else. The tag names two
/// types and a number:
///
///   Scalar        type of activations and of the weights in a product
///   Accumulator   type of sums, statistics, gradients of parameters, master weights and optimizer state
///   logits_bytes  memory that the logits of one chunk may take, in bytes
///
/// Rules for all primitives:
///
///   - Matrices are row-major views of device memory.
///   - A result overwrites its Output or is added to it, as the Output says.
///   - Nothing is allocated.
///   - The same inputs, device and number of threads give the same result bit for bit, so every sum has a
///     fixed order.
///   - Arguments do not overlap, except where the description allows it.
namespace lnfree {

/// The attention's output for a model that observes its heads.
template <class A>
struct RowEntropies {
  A* rows;  ///< (B, H, T): the entropy of each query in nats; not finite if one of its scores is not.
};

/// The same with the largest score of each query.
template <class A>
struct RowScores : RowEntropies<A> {
  A* max_scores;  ///< (B, H, T): the largest score of each query over the keys that it attends to.
};

/// Whether the attention also outputs the largest scores.
template <class E>
concept HasMaxScores = requires(E entropies) { entropies.max_scores; };

/// The input of the attention's backward pass if the objective depends on the entropies.
template <class A>
struct EntropyGradients {
  const A* rows;    ///< (B, H, T): the entropies that the forward pass wrote to RowEntropies.
  const A* d_rows;  ///< (B, H, T): their gradients.
};

/// Passed instead of RowEntropies or EntropyGradients if there are no entropies: the code for them is then
/// not compiled.
struct Unobserved {};

/// A penalty on entropies that are far from their head's threshold: with the deviation e = H_i - threshold,
/// it is e^2 if |e| > margin, and 0 otherwise.
struct EntropyPenalty {
  double max_entropy;  ///< The largest entropy in nats; thresholds are learned as shares of it.
  double margin;       ///< The deviation in nats that is not penalized.
  double scale;        ///< The factor of all gradients.
};

/// A device's tag names its types, and the bytes of a chunk of logits.
template <class D>
concept HasTypes = std::floating_point<typename D::Accumulator> && requires {
  typename D::Scalar;
  { D::logits_bytes } -> std::convertible_to<std::int64_t>;
};

/// device.hpp: the memory of the device. allocate() returns memory with an alignment of 64 bytes, and throws
/// Error if there is too little. free_bytes() is about what allocate() can still give. synchronize() returns
/// when all earlier calls have finished their work.
template <class D>
concept HasMemory = requires(D& device, void* p, const void* q, std::size_t bytes) {
  { allocate(device, bytes) } -> std::same_as<void*>;
  deallocate(device, p);
  fill_zero(device, p, bytes);
  copy_to_device(device, p, q, bytes);
  copy_to_host(device, p, q, bytes);
  synchronize(device);
  { free_bytes(device) } -> std::same_as<std::size_t>;
};

/// device.hpp: the name of the device for messages.
template <class D>
concept HasName = requires(D& device) {
  { device_name(device) } -> std::same_as<std::string>;
};

/// device.hpp, if Scalar and Accumulator differ: rounds `count` master weights to the weights that passes
/// read.
template <class D>
concept HasConversion = std::same_as<typename D::Scalar, typename D::Accumulator> ||
                        requires(D& device, Index count, const typename D::Accumulator* from,
                                 typename D::Scalar* to) { convert(device, count, from, to); };

/// gemm.hpp: C = A B, or C = A B + D if the Output has an addend D. A and B are stored matrices or their
/// transposes.
template <class D>
concept HasGemm = requires(D& device, Operand<typename D::Scalar> a, Operand<typename D::Scalar> b,
                           Output<typename D::Scalar> c, Output<typename D::Accumulator> d_weight) {
  gemm(device, a, b, c);
  gemm(device, a, b, d_weight);
};

/// What is done to a product before it is stored: a bias is added to each row, and then the activation `A` is
/// applied.
template <class S, class A>
struct Epilogue {
  const S* bias = nullptr;  ///< (columns of the product); null: no bias.
};
/// The activation of an Epilogue that has none.
struct Unactivated {};

/// gemm.hpp, optional: C = act(A B + bias), or C = act(A B + D + bias), with the activation `act` of the
/// epilogue. On other devices bias and activation are separate passes.
template <class D, class A>
concept HasEpilogue = requires(D& device, Operand<typename D::Scalar> a, Operand<typename D::Scalar> b,
                               Output<typename D::Scalar> c,
                               Epilogue<typename D::Scalar, A> epilogue) { gemm(device, a, b, c, epilogue); };

/// gemm.hpp, on devices that round factors (core/rounded_weights.hpp): announces that one of the next
/// primitives writes `factor`, and that the first product with a weight after that multiplies it by `weight`
/// or its transpose. The primitive that writes it may then round it as well. Without the announcement the
/// results are the same bit for bit.
template <class D>
concept ExpectsProducts =
    requires(D& device, Matrix<const typename D::Scalar> factor, Matrix<const typename D::Scalar> weight) {
      expect_product(device, factor, weight);
    };

/// bias.hpp: y_ij += b_j, and its gradient d_b_j += sum_i d_y_ij.
template <class D>
concept HasBias = requires(D& device, Matrix<typename D::Scalar> y, Matrix<const typename D::Scalar> d_y,
                           const typename D::Scalar* bias, typename D::Accumulator* d_bias) {
  bias_forward(device, y, bias);
  bias_backward(device, d_y, d_bias);
};

/// norm.hpp: y = N::value of every element, given the norm's parameters and, for a RowNorm, the statistics of
/// its row. The forward pass keeps these in `rows`, which is null for a PointwiseNorm. The backward pass
/// computes d_x and adds to the gradients of the parameters.
template <class D, class N>
concept HasNorm =
    requires(D& device, N norm, Matrix<const typename D::Scalar> x,
             NormPointers<const typename D::Scalar, N> parameters, Output<typename D::Scalar> y,
             NormRow<typename D::Accumulator>* rows, Matrix<const typename D::Scalar> d_y,
             Output<typename D::Scalar> d_x, NormPointers<typename D::Accumulator, N> d_parameters) {
      norm_forward(device, norm, x, parameters, y, rows);
      norm_backward(device, norm, x, parameters, rows, d_y, d_x, d_parameters);
    };

/// activation.hpp: y = A::value(x) for each element; y may be x. The backward pass works in place: d_y
/// becomes d_x = d_y A'(saved), and for a learnable activation d_parameter += sum d_y dA/dp. The pointers to
/// the parameter and its gradient are null for a fixed activation.
template <class D, class A>
concept HasActivation =
    requires(D& device, A activation, Matrix<const typename D::Scalar> x, const typename D::Scalar* parameter,
             Matrix<typename D::Scalar> y, typename D::Accumulator* d_parameter) {
      activation_forward(device, activation, x, parameter, y);
      activation_backward(device, activation, x, parameter, y, d_parameter);
    };

/// attention.hpp: causal softmax attention over packed heads (the paper's equations 2 and 7):
///
///   s_ij = q_i k_j / sqrt(head_dim) for j <= i,   a_i = softmax(s_i),   y_i = sum_j a_ij v_j
///
/// qkv (B T, 3 C) holds Q | K | V, y is (B T, C), and log_sum (B, H, T) keeps ln sum_j exp(s_ij) for the
/// backward pass. The forward pass also computes the entropies,
///
///   H_i = ln l - u / l   with   l = sum_j exp(s_ij - max_i),   u = sum_j exp(s_ij - max_i) (s_ij - max_i)
///
/// which is precise even for large scores. It computes the queries from shape.first on; the earlier rows of
/// its outputs are undefined. The backward pass adds the gradients of the entropies to those of the scores,
/// dH_i / ds_ij = -a_ij (ln a_ij + H_i). attention_workspace() returns the number of Accumulators of scratch
/// memory that both passes need.
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

/// entropy.hpp: functions of entropies, of which there is a row of T queries for each head of each sequence,
/// and of each layer. entropy_sums() computes the sum of each row's finite entropies, and their number.
/// entropy_penalty() computes, for row r with the threshold thresholds[r mod heads] penalty.max_entropy, the
/// sum over its queries of the penalty, sums_r. It sets d_rows to the derivative of each penalty times
/// penalty.scale, and adds to d_thresholds. Entropies that are not finite are not penalized.
template <class D>
concept HasEntropy = requires(D& device, Matrix<const typename D::Accumulator> rows,
                              typename D::Accumulator* sums, std::int32_t* finite_rows,
                              EntropyPenalty penalty, int heads, const typename D::Scalar* thresholds,
                              Matrix<typename D::Accumulator> d_rows, typename D::Accumulator* d_thresholds) {
  entropy_sums(device, rows, sums, finite_rows);
  entropy_penalty(device, penalty, heads, rows, thresholds, sums, d_rows, d_thresholds);
};

/// rotary.hpp: rotates, in place, the first `dims` channels of each head of Q and K: at position t the pair
/// (c, c + dims / 2) by the angle t 10000^(-2 c / dims), or by its negative if `inverse` (Su et al., 2021;
/// paired as in GPT-NeoX). Rows before shape.first stay unchanged.
template <class D>
concept HasRotary = requires(D& device, AttentionShape shape, int dims, Matrix<typename D::Scalar> qkv,
                             bool inverse) { rotary(device, shape, dims, qkv, inverse); };

/// statistics.hpp: sums_j = sum_i x_ij^2, and the number of elements that are 0.
template <class D>
concept HasStatistics =
    requires(D& device, Matrix<const typename D::Scalar> x, typename D::Accumulator* sums) {
      column_squares(device, x, sums);
      { count_zeros(device, x) } -> std::same_as<Index>;
    };

/// embedding.hpp: x_(b,t) = token_table[token] + position_table[t], without the latter if that table is
/// empty. The tokens (B T) are in device memory and less than the size of the vocabulary. The backward pass
/// adds the gradients of the rows to those of the tables in a fixed order.
template <class D>
concept HasEmbedding =
    requires(D& device, BatchShape shape, const std::int32_t* tokens, Matrix<const typename D::Scalar> table,
             Matrix<typename D::Scalar> x, Matrix<const typename D::Scalar> d_x,
             Matrix<typename D::Accumulator> d_table) {
      embedding_forward(device, shape, tokens, table, table, x);
      embedding_backward(device, shape, tokens, d_x, d_table, d_table);
    };

/// dropout.hpp: each element becomes 0 with probability `rate` and is otherwise divided by 1 - rate. Element
/// i becomes 0 if the i-th 32-bit number of `random` is below rate 2^32, so the backward pass is the same
/// call on the gradient.
template <class D>
concept HasDropout = requires(D& device, Matrix<typename D::Scalar> x, double rate, Philox random) {
  dropout(device, x, rate, random);
};

/// cross_entropy.hpp: losses_i = ln sum_j exp(logits_ij) - logits_i,target for each row; 0 if the target is
/// negative. The second function also overwrites the logits with their gradient, gradient_scale
/// (softmax(logits_i) - onehot(target)); it is 0 as well if the target is negative.
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

/// elementwise.hpp: a function f of the elements of arrays of `count` numbers each, of any types that the
/// device stores. for_each_element() calls f(a_i, b_i, ...) for every i, and stores the values that f gives
/// to its arguments in the arrays that are not const. sum_of() returns sum_i f(a_i, b_i, ...) to the host;
/// the sum is computed in double. f has no members or only numbers; its operator() is a template marked
/// LNFREE_HOST_DEVICE and is called with Accumulators. Two arrays may be the same memory if f gives the same
/// value to both. Optimizers, penalties and averages of weights are written with these two.
template <class D>
concept HasElementwise =
    requires(D& device, Index count, typename D::Accumulator* x, const typename D::Scalar* y) {
      for_each_element(device, count, SampleElement{}, x, y);
      { sum_of(device, count, SampleElement{}, x, y) } -> std::same_as<double>;
    };

/// A device: its types, and every primitive that does not depend on a policy. HasNorm and HasActivation are
/// checked for each policy.
template <class D>
concept Device = HasTypes<D> && HasMemory<D> && HasName<D> && HasConversion<D> && HasGemm<D> && HasBias<D> &&
                 HasAttention<D> && HasEntropy<D> && HasRotary<D> && HasEmbedding<D> && HasDropout<D> &&
                 HasCrossEntropy<D> && HasElementwise<D> && HasStatistics<D>;

}  // namespace lnfree
