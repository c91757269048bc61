#include <cstdio>
#include <string>
#include <vector>

#include <lnfree/model.hpp>

using namespace lnfree;

constexpr DecoderConfig shape{
    .layers = 4, .heads = 4, .width = 64, .ffn_width = 256, .context = 32, .vocab_size = 128};

int main() {
  // Blocks without LayerNorm; up to 8 sequences at a time.
  Decoder<shape, Identity, ReLU, Cpu, EntropyObserver> model(8);
  model.initialize(/*seed=*/1337);
  AdamW optimizer(model);

  const std::string text = "def relu(x):\n    return x if x > 0 else 0\n\n";  // a token is a byte
  std::vector<int> tokens(8 * shape.context), targets(tokens.size());
  const Batch batch{{8, shape.context}, tokens, targets};
  for (int step = 0; step < 200; ++step) {
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      tokens[i] = text[(step + i) % text.size()];
      targets[i] = text[(step + i + 1) % text.size()];
    }
    model.observer().reset();
    const double loss = model.forward_backward(batch);
    optimizer.step(/*learning_rate=*/1e-3);
    if (step % 40 == 39) std::printf("step %3d: loss %.3f nats\n", step + 1, loss);
  }
  for (const auto& layer : model.observer().head_entropy())
    std::printf("head entropies %.2f %.2f %.2f %.2f nats\n", layer[0], layer[1], layer[2], layer[3]);
}
