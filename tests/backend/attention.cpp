#include <lnfree/backend/primitives.hpp>

#include "backend/workbench.hpp"

using namespace lnfree;
using namespace lnfree::test;

namespace {

/// Forward, with entropies or without, and backward.
template <class Bench>
void attention_case(Bench& bench, AttentionShape shape, bool observed, double std) {
  using Accumulator = typename Bench::Accumulator;
  const Index rows = shape.rows(), width = shape.width();
  const Index row_heads = rows * shape.heads, heads = Index{shape.batch} * shape.heads;
  auto qkv = bench.scalars("qkv", rows, 3 * width, std);
  auto y = bench.poisoned_scalars(rows, width);
  auto log_sum = bench.poisoned_accumulators(1, row_heads);
  auto workspace = bench.poisoned_accumulators(1, attention_workspace(bench.device(), shape));
  if (observed) {
    auto sums = bench.poisoned_accumulators(1, heads);
    auto* finite = bench.template raw<std::int32_t>(heads);
    attention_forward(bench.device(), shape, qkv, y, log_sum.data, workspace.data,
                      HeadEntropies<Accumulator>{sums.data, finite});
    bench.result("entropy sums", sums);
    bench.result("finite rows", finite, heads);
  } else {
    attention_forward(bench.device(), shape, qkv, y, log_sum.data, workspace.data, Unobserved{});
  }
  auto d_y = bench.scalars("d_y", rows, width);
  auto d_qkv = bench.poisoned_scalars(rows, 3 * width);
  attention_backward(bench.device(), shape, qkv, y, log_sum.data, d_y, d_qkv, workspace.data);
  bench.result("y", y);
  bench.result("log sum", log_sum, 1);
  bench.result("d_qkv", d_qkv);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(backend_attention)

BOOST_AUTO_TEST_CASE_TEMPLATE(agrees, D, Backends) {
  for (const int length : {1, 7, 32, 45, 128}) {
    for (const int batch : {1, 3}) {
      for (const int head_dim : {1, 5, 16, 64}) {
        for (const bool observed : {false, true}) {
          check<D>(sizes(batch, length, head_dim) + (observed ? " observed" : ""), [&](auto& bench) {
            attention_case(bench, {batch, length, 3, head_dim}, observed, 1.5);
          });
        }
      }
    }
  }
}

// Scores of several hundred: a softmax that does not subtract the maximum overflows.
BOOST_AUTO_TEST_CASE_TEMPLATE(bears_large_scores, D, Backends) {
  check<D>("large scores",
           [](auto& bench) {
             attention_case(bench, {2, 45, 2, 16}, true, 12);
           },
           {.tolerance = std::max(5e-4, 3 * rounding<D>)});
}

// What a later position holds, a NaN or an infinity included, is nothing to an earlier one.
BOOST_AUTO_TEST_CASE_TEMPLATE(bears_values_that_are_not_finite, D, Backends) {
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
BOOST_AUTO_TEST_CASE_TEMPLATE(observed_or_not, D, Backends) {
  const auto with = [](bool observed) {
    return run<D>([=](auto& bench) { attention_case(bench, {2, 33, 3, 5}, observed, 1); });
  };
  const auto plain = with(false), observed = with(true);
  for (std::size_t r = 0; r < plain.size(); ++r) {
    BOOST_TEST(distance(plain[r].values, observed[r + 2].values) == 0, plain[r].name);
  }
}

BOOST_AUTO_TEST_SUITE_END()
