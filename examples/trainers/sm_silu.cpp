#include "trainer_main.hpp"

/// SiLU, no normalization.
int main(int argc, char** argv) {
  return trainers::trainer_main<lnfree::Identity, lnfree::SiLU>(argc, argv);
}
