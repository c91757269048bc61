#include "device/workbench.hpp"

using namespace lnfree;
using namespace lnfree::test;

namespace {

template <class Bench>
void cross_entropy_case(Bench& bench, Index rows, Index vocab, double std) {
  auto logits = bench.scalars("logits", rows, vocab, std);
  auto* targets = bench.integers("targets", rows, rows == 1 ? 0 : -1, static_cast<std::int32_t>(vocab));
  auto losses = bench.poisoned_accumulators(1, rows);
  cross_entropy_forward(bench.device(), logits, targets, losses.data);
  bench.result("losses", losses, 1);
  bench.result("logits", logits);
  auto losses_again = bench.poisoned_accumulators(1, rows);
  cross_entropy_forward_backward(bench.device(), logits, targets, losses_again.data, 0.25);
  bench.result("losses beside the gradient", losses_again, 1);
  bench.result("d_logits", logits, 0.25 / std::sqrt(static_cast<double>(vocab)));
}

}  // namespace

BOOST_AUTO_TEST_SUITE(device_cross_entropy)

BOOST_AUTO_TEST_CASE_TEMPLATE(agrees, D, Devices) {
  for (const Index rows : {1, 7, 128, 384}) {
    for (const Index vocab : {5, 17, 64, 100, 1001}) {
      check<D>(sizes(rows, vocab), [&](auto& bench) { cross_entropy_case(bench, rows, vocab, 1); });
    }
  }
}

// Longer than a GPU block keeps in shared memory.
BOOST_AUTO_TEST_CASE_TEMPLATE(agrees_on_long_rows, D, Devices) {
  check<D>("long rows", [](auto& bench) { cross_entropy_case(bench, 3, 50'704, 1); });
}

BOOST_AUTO_TEST_CASE_TEMPLATE(bears_large_logits, D, Devices) {
  check<D>("logits of thousands", [](auto& bench) { cross_entropy_case(bench, 128, 100, 1000); },
           {.tolerance = 1e-3});
}

// Rows without a target have no loss and no gradient.
BOOST_AUTO_TEST_CASE_TEMPLATE(negative_targets, D, Devices) {
  Workbench<D> bench(seed());
  auto logits = bench.scalars("logits", 3, 17);
  auto losses = bench.poisoned_accumulators(1, 3);
  cross_entropy_forward_backward(bench.device(), logits, bench.integers({-1, 4, -100}), losses.data, 1.0);
  const auto loss = bench.download(losses.data, 3);
  BOOST_TEST(loss[0] == 0);
  BOOST_TEST(loss[1] > 0);
  BOOST_TEST(loss[2] == 0);
  const auto gradient = bench.download(logits.data, 3 * 17);
  for (int j = 0; j < 17; ++j) {
    BOOST_TEST(gradient[j] == 0);
    BOOST_TEST(gradient[2 * 17 + j] == 0);
  }
  BOOST_TEST(gradient[17 + 4] < 0);
}

BOOST_AUTO_TEST_SUITE_END()
