#include <cstdint>
#include <cstdio>

#include <lnfree/model.hpp>

/// A few steps of training: the loss must fall.
int main() {
  using namespace lnfree;
  Decoder<tiny, Identity, ReLU> model(1);
  model.initialize(1337);
  AdamW optimizer(model);
  const std::int32_t tokens[] = {1, 2, 3, 4}, targets[] = {2, 3, 4, 5};
  const Batch batch{{1, 4}, tokens, targets};
  const double before = model.loss(batch);
  for (int step = 0; step < 20; ++step) {
    model.forward_backward(batch);
    optimizer.step(1e-2);
  }
  std::printf("loss %.3f, then %.3f\n", before, model.loss(batch));
  return model.loss(batch) < before ? 0 : 1;
}
