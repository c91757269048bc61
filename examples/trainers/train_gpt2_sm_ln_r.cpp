#include "trainer_main.hpp"

/// SM + LN + R: softmax, LayerNorm, ReLU.
using Model = lnfree::Decoder<lnfree::gpt2_small, lnfree::LayerNorm, lnfree::ReLU, trainers::Device,
                              lnfree::EntropyObserver>;

int main(int argc, char** argv) {
  return trainers::trainer_main<Model>(argc, argv, trainers::gpt2_defaults());
}
