#include "trainer_main.hpp"

/// GELU, no normalization, and the entropy-guided loss.
int main(int argc, char** argv) {
  return trainers::trainer_main<lnfree::Identity, lnfree::GELU, lnfree::EntropyGuided>(argc, argv);
}
