#include "trainer_main.hpp"

/// The squared ReLU, no normalization.
int main(int argc, char** argv) {
  return trainers::trainer_main<lnfree::Identity, lnfree::SquaredReLU>(argc, argv);
}
