#include "trainer_main.hpp"

/// DynamicErf in LayerNorm's place, and GELU.
int main(int argc, char** argv) {
  return trainers::trainer_main<lnfree::DynamicErf, lnfree::GELU>(argc, argv);
}
