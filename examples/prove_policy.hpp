#pragma once

#include <cstdio>
#include <string>
#include <vector>

#include <lnfree/model.hpp>
#include <lnfree/train/gradient_check.hpp>

/// A small shape for showing that a custom policy trains.
inline constexpr lnfree::DecoderConfig small{
    .layers = 2, .heads = 2, .width = 32, .ffn_width = 128, .context = 32, .vocab_size = 128};

/// Whether the gradients of a model in double agree with finite differences of its loss.
template <class Model>
bool gradients_are_right() {
  const auto report = lnfree::gradient_check<Model>();
  std::printf("worst gradient error %.1e\n", report.worst());
  if (report.worst() < 1e-6) return true;
  std::printf("%s", report.text().c_str());
  return false;
}

/// Whether a model learns a repeating text: its loss must fall to less than half.
template <class Model>
bool learns() {
  constexpr int batch = 4, steps = 150, length = Model::config.context;
  Model model(batch);
  model.initialize(1337);
  lnfree::AdamW optimizer(model);
  const lnfree::WarmupLinearSchedule learning_rate{.peak = 2e-3, .steps = steps};

  const std::string text = "the quick brown fox jumps over the lazy dog, ";
  std::vector<int> tokens(batch * length), targets(tokens.size());
  double first = 0, last = 0;
  for (int step = 0; step < steps; ++step) {
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      tokens[i] = text[(step + i) % text.size()];
      targets[i] = text[(step + i + 1) % text.size()];
    }
    last = model.forward_backward({{batch, length}, tokens, targets});
    if (step == 0) first = last;
    optimizer.step(learning_rate(step));
  }
  std::printf("loss %.3f at the first step, %.3f at the last\n", first, last);
  return last < 0.5 * first;
}
