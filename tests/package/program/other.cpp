#include <cstdint>
#include <vector>

#include <lnfree/model.hpp>

double loss_in_a_shared_library();

/// The loss of main.cpp's model before its first step.
double loss_in_a_shared_library() {
  lnfree::Decoder<lnfree::tiny, lnfree::Identity, lnfree::ReLU> model(2);
  model.initialize(1337);
  const std::vector<std::int32_t> tokens{0, 1, 2, 3, 4, 5}, targets{1, 2, 3, 4, 5, 6};
  return model.loss({{2, 3}, tokens, targets});
}
