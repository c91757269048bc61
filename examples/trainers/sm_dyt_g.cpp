#include "trainer_main.hpp"

/// DynamicTanh in LayerNorm's place, and GELU.
int main(int argc, char** argv) {
  return trainers::trainer_main<lnfree::DynamicTanh, lnfree::GELU>(argc, argv);
}
