#include "trainer_main.hpp"

/// LayerNorm, and leaky ReLU with a learned slope for each layer.
int main(int argc, char** argv) {
  return trainers::trainer_main<lnfree::LayerNorm, lnfree::LeakyLearnable<lnfree::Scope::per_layer>>(argc,
                                                                                                     argv);
}
