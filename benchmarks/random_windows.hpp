#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include <lnfree/core/random.hpp>
#include <lnfree/nn/decoder.hpp>

namespace benchmarks {

/// Random windows, new ones at each draw; a token's target is the next one, as in training.
class RandomWindows {
 public:
  RandomWindows(lnfree::BatchShape shape, int vocab_size)
      : shape_(shape),
        vocab_size_(static_cast<std::uint32_t>(vocab_size)),
        tokens_(shape_.rows()),
        targets_(shape_.rows()) {}

  lnfree::Batch draw() {
    for (std::int32_t& token : tokens_) token = static_cast<std::int32_t>(random_(drawn_++)[0] % vocab_size_);
    for (std::size_t i = 0; i < tokens_.size(); ++i) {
      targets_[i] = (i + 1) % shape_.length == 0 ? -1 : tokens_[i + 1];
    }
    return {shape_, tokens_, targets_};
  }

 private:
  lnfree::BatchShape shape_;
  std::uint32_t vocab_size_;
  std::vector<std::int32_t> tokens_, targets_;
  lnfree::Philox random_{1, lnfree::stream_of("windows")};
  std::uint64_t drawn_ = 0;
};

}  // namespace benchmarks
