#include "trainer_main.hpp"

/// Leaky ReLU with one learned slope for all layers, no normalization (the paper's figure 3b).
int main(int argc, char** argv) {
  return trainers::trainer_main<lnfree::Identity, lnfree::LeakyLearnable<lnfree::Scope::global>>(argc, argv);
}
