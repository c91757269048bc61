#include <cstdio>
#include <string>
#include <vector>

#include <lnfree/model.hpp>

using namespace lnfree;

int main() {
  constexpr DecoderConfig shape{
      .layers = 4, .heads = 4, .width = 64, .ffn_width = 256, .context = 32, .vocab_size = 256};
  constexpr int batch = 8, steps = 200;

  Decoder<shape, Identity, ReLU, Cpu, EntropyObserver> model(batch);  // no LayerNorm in front of any sublayer
  model.initialize(1337);
  AdamW optimizer(model);
  const WarmupLinearSchedule learning_rate{.peak = 2e-3, .steps = steps};

  const std::string text = "def relu(x):\n    return x if x > 0 else 0\n\n";  // a token is a byte
  std::vector<int> tokens(batch * shape.context), targets(tokens.size());
  for (int step = 0; step < steps; ++step) {
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      tokens[i] = text[(step + i) % text.size()];
      targets[i] = text[(step + i + 1) % text.size()];
    }
    model.observer().reset();
    const double loss = model.forward_backward({{batch, shape.context}, tokens, targets});
    optimizer.step(learning_rate(step));
    if (step % 40 == 0 || step + 1 == steps) std::printf("step %3d: loss %.3f nats\n", step, loss);
  }
  for (int layer = 0; layer < shape.layers; ++layer) {
    std::printf("layer %d: head entropies", layer);
    for (int head = 0; head < shape.heads; ++head)
      std::printf(" %.2f", model.observer().head_entropy(layer, head));
    std::printf(" nats\n");
  }
}
