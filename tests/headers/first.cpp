#include <cstdio>

#include "all.hpp"

double loss_of_another_source();

/// The same model in two sources that include everything: one program, one loss.
int main() {
  using namespace lnfree;
  Decoder<tiny, LayerNorm, GELU, Cpu, EntropyObserver> model(1);
  model.initialize(1);
  const std::int32_t tokens[] = {1, 2, 3}, targets[] = {2, 3, 4};
  const double ours = model.loss({{1, 3}, tokens, targets}), theirs = loss_of_another_source();
  std::printf("loss %.17g here, %.17g there\n", ours, theirs);
  return ours == theirs && ours > 0 ? 0 : 1;
}
