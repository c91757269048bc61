#include <lnfree/activation/gelu.hpp>
#include <lnfree/core/math.hpp>

// Compiled with -fno-inline: functions that must be inlined into their loop still are, or their names appear
// in the object file.
void exponentials(float* x, int count) {
  for (int i = 0; i < count; ++i) x[i] = lnfree::math::exp(x[i]);
}
void powers_of_two(float* x, int count) {
  for (int i = 0; i < count; ++i) x[i] = lnfree::math::exp2(x[i]);
}
void gradients(float* x, int count) {
  for (int i = 0; i < count; ++i) x[i] = lnfree::GELU::derivative(x[i]);
}
