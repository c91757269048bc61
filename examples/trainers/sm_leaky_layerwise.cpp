#include "trainer_main.hpp"

/// Leaky ReLU with a learned slope for each layer, no normalization (the paper's figure 3a).
int main(int argc, char** argv) {
  return trainers::trainer_main<lnfree::Identity, lnfree::LeakyLearnable<lnfree::Scope::per_layer>>(argc,
                                                                                                    argv);
}
