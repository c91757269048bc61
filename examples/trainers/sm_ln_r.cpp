#include "trainer_main.hpp"

/// SM + LN + R: softmax, LayerNorm, ReLU.
int main(int argc, char** argv) {
  return trainers::trainer_main<lnfree::LayerNorm, lnfree::ReLU>(argc, argv);
}
