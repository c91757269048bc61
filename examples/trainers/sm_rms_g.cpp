#include "trainer_main.hpp"

/// RMSNorm and GELU.
int main(int argc, char** argv) {
  return trainers::trainer_main<lnfree::RMSNorm, lnfree::GELU>(argc, argv);
}
