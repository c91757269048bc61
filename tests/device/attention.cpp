#include <algorithm>
#include <numeric>
#include <string_view>

#include <lnfree/device/primitives.hpp>

#include "device/workbench.hpp"

using namespace lnfree;
using namespace lnfree::test;

namespace {

/// What uses the entropies.
enum class Entropies { nobody, observer, loss };

/// Forward, with entropies or without, and backward.
template <class Bench>
void attention_case(Bench& bench, AttentionShape shape, Entropies use, double std) {
  using Accumulator = typename Bench::Accumulator;
  const Index rows = shape.rows(), width = shape.width(), row_heads = rows * shape.heads;
  auto qkv = bench.scalars("qkv", rows, 3 * width, std);
  auto y = bench.poisoned_scalars(rows, width);
  auto log_sum = bench.poisoned_accumulators(1, row_heads);
  auto workspace = bench.poisoned_accumulators(1, attention_workspace(bench.device(), shape));
  auto entropies = bench.poisoned_accumulators(1, row_heads);
  if (use != Entropies::nobody) {
    attention_forward(bench.device(), shape, qkv, y, log_sum.data, workspace.data,
                      RowEntropies<Accumulator>{entropies.data});
    bench.result("entropies", entropies, 1);
  } else {
    attention_forward(bench.device(), shape, qkv, y, log_sum.data, workspace.data, Unobserved{});
  }
  auto d_y = bench.scalars("d_y", rows, width);
  auto d_qkv = bench.poisoned_scalars(rows, 3 * width);
  if (use == Entropies::loss) {
    auto d_entropies = bench.accumulators("d_entropies", 1, row_heads);
    attention_backward(bench.device(), shape, qkv, y, log_sum.data, d_y, d_qkv, workspace.data,
                       EntropyGradients<Accumulator>{entropies.data, d_entropies.data});
  } else {
    attention_backward(bench.device(), shape, qkv, y, log_sum.data, d_y, d_qkv, workspace.data, Unobserved{});
  }
  bench.result("y", y);
  bench.result("log sum", log_sum, 1);
  bench.result("d_qkv", d_qkv);
}

/// How far d_qkv moves, relative to its norm, if D_i = sum_j P_ij dP_ij is computed as y_i d_y_i from a y
/// that was rounded to Scalar: dS_ij = P_ij (dP_ij - D_i) / sqrt(head_dim) moves by P_ij times the change of
/// D_i. Where one key has nearly all the weight, dP_ij and D_i cancel, but that change does not.
template <class Scalar>
double effect_of_rounding_y(AttentionShape shape, Entropies use, double std) {
  Workbench<Reference<double>> bench(seed());
  attention_case(bench, shape, use, std);
  const auto values = [&](std::string_view name) {
    return std::ranges::find(bench.results(), name, &Result::name)->values;
  };
  const Index rows = shape.rows(), width = shape.width(), dim = shape.head_dim;
  const auto y = values("y"), log_sum = values("log sum"), exact = values("d_qkv");
  const auto qkv = bench.scalars("qkv", rows, 3 * width, std), d_y = bench.scalars("d_y", rows, width);
  auto moved = exact;
  for (Index i = 0; i < rows; ++i) {  // the query, of all sequences
    const Index sequence = i / shape.length, first = sequence * shape.length;
    for (Index h = 0; h < shape.heads; ++h) {
      double d_change = 0;
      for (Index c = h * dim; c < (h + 1) * dim; ++c) {
        const double stored = static_cast<float>(static_cast<Scalar>(static_cast<float>(y[i * width + c])));
        d_change += (stored - y[i * width + c]) * d_y.row(i)[c];
      }
      const double l = log_sum[(sequence * shape.heads + h) * shape.length + i - first];
      for (Index j = first; j <= i; ++j) {
        const double *const q = qkv.row(i) + h * dim, *const k = qkv.row(j) + width + h * dim;
        const double scale = 1 / std::sqrt(static_cast<double>(dim));
        const double p = std::exp(scale * std::inner_product(q, q + dim, k, 0.0) - l);
        for (Index c = 0; c < dim; ++c) {
          moved[i * 3 * width + h * dim + c] -= scale * p * d_change * k[c];
          moved[j * 3 * width + width + h * dim + c] -= scale * p * d_change * q[c];
        }
      }
    }
  }
  return distance(moved, exact);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(device_attention)

BOOST_AUTO_TEST_CASE_TEMPLATE(agrees, D, Devices) {
  for (const int length : {1, 7, 32, 45, 128}) {
    for (const int batch : {1, 3}) {
      for (const int head_dim : {1, 5, 16, 64}) {
        for (const Entropies use : {Entropies::nobody, Entropies::observer, Entropies::loss}) {
          check<D>(sizes(batch, length, head_dim) + ", entropies " + std::to_string(int(use)),
                   [&](auto& bench) { attention_case(bench, {batch, length, 3, head_dim}, use, 1.5); });
        }
      }
    }
  }
}

// Only the last queries; a device may compute more of them, but not fewer.
BOOST_AUTO_TEST_CASE_TEMPLATE(later_queries, D, Devices) {
  for (const auto& [length, first] : {std::pair{2, 1}, {45, 44}, {45, 40}, {70, 3}, {128, 64}, {200, 196}}) {
    for (const int head_dim : {5, 16, 64}) {
      for (const bool observed : {false, true}) {
        const AttentionShape shape{1, length, 3, head_dim, first};
        check<D>(sizes(length, first, head_dim), [&, first = first](auto& bench) {
          using Accumulator = typename std::decay_t<decltype(bench)>::Accumulator;
          const Index fresh = shape.length - first;
          const auto result = [&](const char* name, Matrix<Accumulator> of_queries) {
            for (Index h = 0; h < shape.heads; ++h) bench.result(name, of_queries.row(h) + first, fresh, 1);
          };
          auto qkv = bench.scalars("qkv", shape.rows(), 3 * shape.width(), 1.5);
          auto y = bench.poisoned_scalars(shape.rows(), shape.width());
          auto log_sum = bench.poisoned_accumulators(shape.heads, shape.length);
          auto workspace = bench.poisoned_accumulators(1, attention_workspace(bench.device(), shape));
          auto entropies = bench.poisoned_accumulators(shape.heads, shape.length);
          auto max_scores = bench.poisoned_accumulators(shape.heads, shape.length);
          if (observed) {
            RowScores<Accumulator> scores;
            scores.rows = entropies.data;
            scores.max_scores = max_scores.data;
            attention_forward(bench.device(), shape, qkv, y, log_sum.data, workspace.data, scores);
            result("entropies", entropies);
            result("max scores", max_scores);
          } else {
            attention_forward(bench.device(), shape, qkv, y, log_sum.data, workspace.data, Unobserved{});
          }
          bench.result("y", y.slice(first, fresh));
          result("log sum", log_sum);
        });
      }
    }
  }
}

// Several tiles of queries and keys, and the larger heads.
BOOST_AUTO_TEST_CASE_TEMPLATE(agrees_on_larger_sizes, D, Devices) {
  for (const int length : {1, 7, 64, 128, 200, 256}) {
    for (const int head_dim : {16, 32, 64, 128}) {
      for (const Entropies use : {Entropies::nobody, Entropies::loss}) {
        check<D>(sizes(length, head_dim) + ", entropies " + std::to_string(int(use)),
                 [&](auto& bench) { attention_case(bench, {1, length, 2, head_dim}, use, 1.2); });
      }
    }
  }
}

// Several tiles, and rows that are not made of whole packs.
BOOST_AUTO_TEST_CASE_TEMPLATE(agrees_on_odd_heads_of_many_tiles, D, Devices) {
  for (const auto& [length, head_dim] : {std::pair{97, 3}, {193, 5}, {205, 20}}) {
    check<D>(sizes(length, head_dim), [&, length = length, head_dim = head_dim](auto& bench) {
      attention_case(bench, {2, length, 3, head_dim}, Entropies::loss, 1.2);
    });
  }
}

// Scores of several hundred: a softmax that does not subtract the maximum overflows. A GPU computes D from
// the y that it stored; what rounding y does to d_qkv is allowed in addition to the rounding of the results.
BOOST_AUTO_TEST_CASE_TEMPLATE(bears_large_scores, D, Devices) {
  for (const int length : {45, 77}) {
    const AttentionShape shape{2, length, 2, 16};
    const double of_y =
        UsesThreads<D> ? 0 : effect_of_rounding_y<typename D::Scalar>(shape, Entropies::loss, 12);
    check<D>(sizes(length), [&](auto& bench) { attention_case(bench, shape, Entropies::loss, 12); },
             {.tolerance = std::max(5e-4, rounding<D>) + of_y});
  }
}

#ifndef LNFREE_TEST_CUDA
// Scores of 1e8, each query attending to one key: the logarithm of the sum of their exponentials has lost the
// digits from which the backward pass could recompute the weights.
BOOST_AUTO_TEST_CASE_TEMPLATE(bears_huge_scores, D, Devices) {
  check<D>("huge scores",
           [](auto& bench) { attention_case(bench, {2, 45, 2, 5}, Entropies::nobody, 15000); });
}
#endif

// The values of a later position, even NaN or infinity, do not affect an earlier one.
BOOST_AUTO_TEST_CASE_TEMPLATE(bears_values_that_are_not_finite, D, Devices) {
  for (const double bad : {double(NAN), double(INFINITY)}) {
    check<D>("a bad value", [&](auto& bench) {
      const AttentionShape shape{1, 45, 1, 5};
      auto qk = bench.download(bench.scalars("qkv", 45, 15).data, 45 * 15);
      std::vector<double> values(qk.begin(), qk.end());
      values[37 * 15 + 12] = bad;
      auto qkv = bench.scalars(values, 45, 15);
      auto y = bench.poisoned_scalars(45, 5);
      auto log_sum = bench.poisoned_accumulators(1, 45);
      auto workspace = bench.poisoned_accumulators(1, attention_workspace(bench.device(), shape));
      attention_forward(bench.device(), shape, qkv, y, log_sum.data, workspace.data, Unobserved{});
      bench.result("rows before", y.top(37));
      for (const auto value : bench.download(y.row(37) + 2, 1)) BOOST_TEST(!std::isfinite(value));
    });
  }
}

// Observing changes nothing else.
BOOST_AUTO_TEST_CASE_TEMPLATE(observed_or_not, D, Devices) {
  const auto with = [](bool observed) {
    const Entropies use = observed ? Entropies::observer : Entropies::nobody;
    return run<D>([=](auto& bench) { attention_case(bench, {2, 33, 3, 5}, use, 1); });
  };
  const auto plain = with(false), observed = with(true);
  for (std::size_t r = 0; r < plain.size(); ++r) {
    BOOST_TEST(distance(plain[r].values, observed[r + 1].values) == 0, plain[r].name);
  }
}

BOOST_AUTO_TEST_SUITE_END()
