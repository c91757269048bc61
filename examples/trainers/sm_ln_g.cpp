#include "trainer_main.hpp"

/// SM + LN + G: softmax, LayerNorm, GELU.
int main(int argc, char** argv) {
  return trainers::trainer_main<lnfree::LayerNorm, lnfree::GELU>(argc, argv);
}
