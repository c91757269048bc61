#include <lnfree/activation/gelu.hpp>
#include <lnfree/core/math.hpp>

// Compiled with -fno-inline: what must become part of its loop does so all the same, or its name is left in
// here.
void exponentials(float* x, int count) {
  for (int i = 0; i < count; ++i) x[i] = lnfree::math::exp(x[i]);
}
void powers_of_two(float* x, int count) {
  for (int i = 0; i < count; ++i) x[i] = lnfree::math::exp2(x[i]);
}
void gradients(float* x, int count) {
  for (int i = 0; i < count; ++i) x[i] = lnfree::GELU::derivative(x[i]);
}
