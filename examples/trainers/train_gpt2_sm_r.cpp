#include "trainer_main.hpp"

/// SM + R: softmax and ReLU, no normalization.
using Model = lnfree::Decoder<lnfree::gpt2_small, lnfree::Identity, lnfree::ReLU, trainers::Device,
                              lnfree::EntropyObserver>;

int main(int argc, char** argv) {
  return trainers::trainer_main<Model>(argc, argv, trainers::gpt2_defaults());
}
