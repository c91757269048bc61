#include "gpu/oracle.hpp"

#include <ratio>

#include <lnfree/activation/gelu.hpp>
#include <lnfree/activation/leaky_learnable.hpp>
#include <lnfree/activation/leaky_relu.hpp>
#include <lnfree/activation/relu.hpp>
#include <lnfree/activation/silu.hpp>
#include <lnfree/activation/squared_relu.hpp>
#include <lnfree/device/eigen/eigen.hpp>
#include <lnfree/norm/dynamic_erf.hpp>
#include <lnfree/norm/dynamic_tanh.hpp>
#include <lnfree/norm/layer_norm.hpp>
#include <lnfree/norm/rms_norm.hpp>
#include <lnfree/norm/staged.hpp>
#include <lnfree/norm/tapered.hpp>
#include <lnfree/objective/steady_scale.hpp>

#include "support/policies.hpp"

/// Reference<double> for programs of nvcc, with every policy that the tests on a GPU use.
namespace lnfree::eigen {

using Oracle = EigenCpu<double>;
using In = Matrix<const double>;
using Out = Matrix<double>;

template void gemm(Oracle&, Operand<double>, Operand<double>, Output<double>);
template void bias_forward(Oracle&, Out, const double*);
template void bias_backward(Oracle&, In, double*);
template Index attention_workspace(Oracle&, AttentionShape);
template void attention_forward(Oracle&, AttentionShape, In, Out, double*, double*, Unobserved);
template void attention_forward(Oracle&, AttentionShape, In, Out, double*, double*, RowEntropies<double>);
template void attention_forward(Oracle&, AttentionShape, In, Out, double*, double*, RowScores<double>);
template void attention_backward(Oracle&, AttentionShape, In, In, const double*, In, Out, double*,
                                 Unobserved);
template void attention_backward(Oracle&, AttentionShape, In, In, const double*, In, Out, double*,
                                 EntropyGradients<double>);
template void entropy_sums(Oracle&, In, double*, std::int32_t*);
template void entropy_penalty(Oracle&, const EntropyPenalty&, int, In, const double*, double*, Out, double*);
template void rotary(Oracle&, AttentionShape, int, Out, bool);
template void column_squares(Oracle&, In, double*);
template Index count_zeros(Oracle&, In);
template void embedding_forward(Oracle&, BatchShape, const std::int32_t*, In, In, Out);
template void embedding_backward(Oracle&, BatchShape, const std::int32_t*, In, Out, Out);
template void dropout(Oracle&, Out, double, Philox);
template void cross_entropy_forward(Oracle&, In, const std::int32_t*, double*);
template void cross_entropy_forward_backward(Oracle&, Out, const std::int32_t*, double*, double);

#define LNFREE_TEST_ACTIVATION(...)                                               \
  template void activation_forward(Oracle&, __VA_ARGS__, In, const double*, Out); \
  template void activation_backward(Oracle&, __VA_ARGS__, In, const double*, Out, double*)
LNFREE_TEST_ACTIVATION(GELU);
LNFREE_TEST_ACTIVATION(GELUTanh);
LNFREE_TEST_ACTIVATION(ReLU);
LNFREE_TEST_ACTIVATION(SiLU);
LNFREE_TEST_ACTIVATION(SquaredReLU);
LNFREE_TEST_ACTIVATION(LeakyReLU<>);
LNFREE_TEST_ACTIVATION(LeakyReLU<std::ratio<1, 10>>);
LNFREE_TEST_ACTIVATION(LeakyLearnable<Scope::per_layer>);
LNFREE_TEST_ACTIVATION(LeakyLearnable<Scope::global>);
LNFREE_TEST_ACTIVATION(test::LearnableSwish);

#define LNFREE_TEST_NORM(N)                                                                              \
  template void norm_forward(Oracle&, N, In, NormPointers<const double, N>, Output<double>,              \
                             NormRow<double>*);                                                          \
  template void norm_backward(Oracle&, N, In, NormPointers<const double, N>, const NormRow<double>*, In, \
                              Output<double>, NormPointers<double, N>)
using HalfOpenStaged = test::HalfOpen<Staged, 3>;  // the macro takes one argument
LNFREE_TEST_NORM(LayerNorm);
LNFREE_TEST_NORM(RMSNorm);
LNFREE_TEST_NORM(DynamicTanh);
LNFREE_TEST_NORM(DynamicErf);
LNFREE_TEST_NORM(test::PlainNorm);
LNFREE_TEST_NORM(test::BentNorm);
LNFREE_TEST_NORM(test::Gate);
LNFREE_TEST_NORM(Tapered);
LNFREE_TEST_NORM(HalfOpenStaged);
LNFREE_TEST_NORM(CenteredRow);

}  // namespace lnfree::eigen
