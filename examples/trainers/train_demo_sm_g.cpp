#include "trainer_main.hpp"

/// SM + G: softmax and GELU, no normalization.
using Model =
    lnfree::Decoder<lnfree::demo, lnfree::Identity, lnfree::GELU, trainers::Device, lnfree::EntropyObserver>;

int main(int argc, char** argv) {
  return trainers::trainer_main<Model>(argc, argv, trainers::demo_defaults());
}
