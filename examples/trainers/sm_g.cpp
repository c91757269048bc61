#include "trainer_main.hpp"

/// SM + G: softmax and GELU, no normalization.
int main(int argc, char** argv) {
  return trainers::trainer_main<lnfree::Identity, lnfree::GELU>(argc, argv);
}
