#pragma once

#include <lnfree/core/tensor.hpp>
#include <lnfree/device/cpu/device.hpp>
#include <lnfree/device/elements.hpp>

namespace lnfree::cpu {

template <CpuDevice D, class F, class... T>
void for_each_element(D&, Index count, const F& f, T*... at) {
  apply_to_elements<float>(count, f, at...);
}

template <CpuDevice D, class F, class... T>
double sum_of(D&, Index count, const F& f, T*... at) {
  return sum_over_elements<float>(count, f, at...);
}

}  // namespace lnfree::cpu
