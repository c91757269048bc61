#include "all.hpp"

double loss_of_another_source();

double loss_of_another_source() {
  using namespace lnfree;
  Decoder<tiny, LayerNorm, GELU, Cpu, EntropyObserver> model(1);
  model.initialize(1);
  const std::int32_t tokens[] = {1, 2, 3}, targets[] = {2, 3, 4};
  return model.loss({{1, 3}, tokens, targets});
}
