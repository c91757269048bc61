#include "trainer_main.hpp"

/// SM + LN + G: softmax, LayerNorm, GELU.
using Model =
    lnfree::Decoder<lnfree::demo, lnfree::LayerNorm, lnfree::GELU, trainers::Device, lnfree::EntropyObserver>;

int main(int argc, char** argv) {
  return trainers::trainer_main<Model>(argc, argv, trainers::demo_defaults());
}
