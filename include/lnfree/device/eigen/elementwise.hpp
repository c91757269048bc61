#pragma once

#include <lnfree/core/tensor.hpp>
#include <lnfree/device/eigen/device.hpp>
#include <lnfree/device/elements.hpp>

namespace lnfree::eigen {

template <class S, class F, class... T>
void for_each_element(EigenCpu<S>&, Index count, const F& f, T*... at) {
  apply_to_elements<S>(count, f, at...);
}

template <class S, class F, class... T>
double sum_of(EigenCpu<S>&, Index count, const F& f, T*... at) {
  return sum_over_elements<S>(count, f, at...);
}

}  // namespace lnfree::eigen
