#include "trainer_main.hpp"

/// SM + R: softmax and ReLU, no normalization.
int main(int argc, char** argv) {
  return trainers::trainer_main<lnfree::Identity, lnfree::ReLU>(argc, argv);
}
