#include "trainer_main.hpp"

/// SM + LN + R: softmax, LayerNorm, ReLU.
using Model =
    lnfree::Decoder<lnfree::demo, lnfree::LayerNorm, lnfree::ReLU, trainers::Device, lnfree::EntropyObserver>;

int main(int argc, char** argv) {
  return trainers::trainer_main<Model>(argc, argv, trainers::demo_defaults());
}
