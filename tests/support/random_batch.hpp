#pragma once

#include <cstdint>
#include <vector>

#include <lnfree/core/random.hpp>
#include <lnfree/nn/decoder.hpp>

namespace lnfree::test {

/// Random tokens and targets of one batch; about every eighth target is ignored.
struct RandomBatch {
  BatchShape shape;
  std::vector<std::int32_t> tokens, targets;

  RandomBatch(BatchShape shape, int vocab_size, std::uint64_t seed, bool all_targets = false)
      : shape(shape), tokens(shape.rows()), targets(shape.rows()) {
    const Philox random(seed, stream_of("batch"));
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      const Philox::Block draw = random(i);
      tokens[i] = static_cast<std::int32_t>(draw[0] % vocab_size);
      const bool counted = all_targets || i == 0 || draw[1] % 8 != 0;
      targets[i] = counted ? static_cast<std::int32_t>(draw[2] % vocab_size) : -1;
    }
  }

  Batch batch() const { return {shape, tokens, targets}; }

  /// Only the sequences [begin, begin + count).
  Batch part(int begin, int count) const {
    const std::size_t first = std::size_t(begin) * shape.length, size = std::size_t(count) * shape.length;
    return {{count, shape.length},
            std::span(tokens).subspan(first, size),
            std::span(targets).subspan(first, size)};
  }
};

}  // namespace lnfree::test
