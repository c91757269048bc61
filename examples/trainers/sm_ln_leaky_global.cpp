#include "trainer_main.hpp"

/// LayerNorm, and leaky ReLU with one learned slope for all layers.
int main(int argc, char** argv) {
  return trainers::trainer_main<lnfree::LayerNorm, lnfree::LeakyLearnable<lnfree::Scope::global>>(argc, argv);
}
