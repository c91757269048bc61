#include <cstdint>
#include <iostream>
#include <vector>

#include <lnfree/model.hpp>

double loss_in_a_shared_library();

int main() {
  lnfree::Decoder<lnfree::tiny, lnfree::Identity, lnfree::ReLU> model(2);
  model.initialize(1337);
  lnfree::AdamW optimizer(model);
  const std::vector<std::int32_t> tokens{0, 1, 2, 3, 4, 5}, targets{1, 2, 3, 4, 5, 6};
  const lnfree::Batch batch{{2, 3}, tokens, targets};
  const double before = model.loss(batch);
  if (before != loss_in_a_shared_library()) return 1;
  for (int step = 0; step < 20; ++step) {
    model.forward_backward(batch);
    optimizer.step(1e-2);
  }
  std::cout << "loss " << before << " -> " << model.loss(batch) << "\n";
  return model.loss(batch) < before ? 0 : 1;
}
