#include <utility>

#include "device/workbench.hpp"

using namespace lnfree;
using namespace lnfree::test;

BOOST_AUTO_TEST_SUITE(device_embedding)

// Vocabularies smaller than the largest batch, so that rows of the table occur many times: everywhere, or far
// apart.
BOOST_AUTO_TEST_CASE_TEMPLATE(agrees, D, Devices) {
  for (const BatchShape shape : {BatchShape{1, 1}, {3, 1}, {1, 7}, {3, 7}, {1, 128}, {3, 128}, {9, 127}}) {
    for (const auto& [width, vocab] :
         {std::pair<Index, Index>{5, 11}, {17, 150}, {64, 11}, {64, 150}, {100, 11}}) {
      check<D>(sizes(shape.batch, shape.length, width), [&, width = width, vocab = vocab](auto& bench) {
        const Index positions = shape.length + 2;
        auto* tokens = bench.integers("tokens", shape.rows(), 0, vocab);
        auto token_table = bench.scalars("token table", vocab, width);
        auto position_table = bench.scalars("position table", positions, width);
        auto x = bench.poisoned_scalars(shape.rows(), width);
        embedding_forward(bench.device(), shape, tokens, token_table, position_table, x);
        auto d_x = bench.scalars("d_x", shape.rows(), width);
        auto d_tokens = bench.accumulators("d_tokens", vocab, width);
        auto d_positions = bench.accumulators("d_positions", positions, width);
        embedding_backward(bench.device(), shape, tokens, d_x, d_tokens, d_positions);
        bench.result("x", x, 1);
        bench.result("d_tokens", d_tokens);
        bench.result("d_positions", d_positions);
      });
    }
  }
}

BOOST_AUTO_TEST_SUITE_END()
