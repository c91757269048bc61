#include "trainer_main.hpp"

/// ReLU in the first half of the layers and GELU in the rest, no normalization.
int main(int argc, char** argv) {
  return trainers::trainer_main<lnfree::Identity,
                                lnfree::Layerwise<lnfree::ReLU, trainers::shape.layers / 2, lnfree::GELU>>(
      argc, argv);
}
