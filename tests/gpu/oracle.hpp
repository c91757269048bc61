#pragma once

#include <cstdint>
#include <type_traits>

#include <lnfree/core/concepts.hpp>
#include <lnfree/core/random.hpp>
#include <lnfree/core/tensor.hpp>
#include <lnfree/device/eigen/device.hpp>
#include <lnfree/device/eigen/elementwise.hpp>
#include <lnfree/device/primitives.hpp>
#include <lnfree/norm/call.hpp>

/// Declarations of EigenCpu's primitives in include/lnfree/device/eigen/; elementwise.hpp, which does not use
/// Eigen, is included.
namespace lnfree::eigen {

template <class S>
void gemm(EigenCpu<S>&, std::type_identity_t<Operand<S>> a, std::type_identity_t<Operand<S>> b,
          std::type_identity_t<Output<S>> c);

template <class S>
void bias_forward(EigenCpu<S>&, Matrix<S> y, const S* bias);
template <class S>
void bias_backward(EigenCpu<S>&, std::type_identity_t<Matrix<const S>> d_y, S* d_bias);

template <class S, Norm N>
void norm_forward(EigenCpu<S>&, N, std::type_identity_t<Matrix<const S>> x,
                  NormPointers<const S, N> parameters, std::type_identity_t<Output<S>> y, NormRow<S>* rows);
template <class S, Norm N>
void norm_backward(EigenCpu<S>&, N, std::type_identity_t<Matrix<const S>> x,
                   NormPointers<const S, N> parameters, const NormRow<S>* rows,
                   std::type_identity_t<Matrix<const S>> d_y, std::type_identity_t<Output<S>> d_x,
                   NormPointers<S, N> d_parameters);

template <class S, Activation A>
void activation_forward(EigenCpu<S>&, A, std::type_identity_t<Matrix<const S>> x, const S* parameter,
                        Matrix<S> y);
template <class S, Activation A>
void activation_backward(EigenCpu<S>&, A, std::type_identity_t<Matrix<const S>> saved, const S* parameter,
                         Matrix<S> d_y, S* d_parameter);

template <class S>
Index attention_workspace(EigenCpu<S>& device, AttentionShape shape);
template <class S, class Entropies>
void attention_forward(EigenCpu<S>& device, AttentionShape shape, std::type_identity_t<Matrix<const S>> qkv,
                       Matrix<S> y, S* log_sum, S* workspace, Entropies entropies);
template <class S, class Gradients>
void attention_backward(EigenCpu<S>& device, AttentionShape shape, std::type_identity_t<Matrix<const S>> qkv,
                        std::type_identity_t<Matrix<const S>> y, const S* log_sum,
                        std::type_identity_t<Matrix<const S>> d_y, Matrix<S> d_qkv, S* workspace,
                        Gradients entropies);

template <class S>
void entropy_sums(EigenCpu<S>&, std::type_identity_t<Matrix<const S>> rows, S* sums,
                  std::int32_t* finite_rows);
template <class S>
void entropy_penalty(EigenCpu<S>&, const EntropyPenalty& penalty, int heads,
                     std::type_identity_t<Matrix<const S>> rows, const S* thresholds, S* sums,
                     Matrix<S> d_rows, S* d_thresholds);

template <class S>
void rotary(EigenCpu<S>&, AttentionShape shape, int dims, Matrix<S> qkv, bool inverse);

template <class S>
void column_squares(EigenCpu<S>&, std::type_identity_t<Matrix<const S>> x, S* sums);
template <class S>
Index count_zeros(EigenCpu<S>&, std::type_identity_t<Matrix<const S>> x);

template <class S>
void embedding_forward(EigenCpu<S>&, BatchShape shape, const std::int32_t* tokens,
                       std::type_identity_t<Matrix<const S>> token_table,
                       std::type_identity_t<Matrix<const S>> position_table, Matrix<S> x);
template <class S>
void embedding_backward(EigenCpu<S>&, BatchShape shape, const std::int32_t* tokens,
                        std::type_identity_t<Matrix<const S>> d_x, Matrix<S> d_token_table,
                        Matrix<S> d_position_table);

template <class S>
void dropout(EigenCpu<S>&, Matrix<S> x, double rate, Philox random);

template <class S>
void cross_entropy_forward(EigenCpu<S>&, std::type_identity_t<Matrix<const S>> logits,
                           const std::int32_t* targets, S* losses);
template <class S>
void cross_entropy_forward_backward(EigenCpu<S>&, Matrix<S> logits, const std::int32_t* targets, S* losses,
                                    double gradient_scale);

}  // namespace lnfree::eigen
