#pragma once

#include <type_traits>

#include <lnfree/backend/reference/device.hpp>
#include <lnfree/core/tensor.hpp>

namespace lnfree::reference {

template <class S, class F, class... T>
void for_each_element(Reference<S>&, Index count, const F& f, T*... at) {
  const auto on_copies = [&](Index i, auto... x) {
    f(x...);
    const auto put_back = []<class U>(U* to, const S& value) {
      if constexpr (!std::is_const_v<U>) *to = value;
    };
    (put_back(at + i, x), ...);
  };
  for (Index i = 0; i < count; ++i) on_copies(i, at[i]...);
}

template <class S, class F, class... T>
double sum_of(Reference<S>&, Index count, const F& f, T*... at) {
  const auto of_copies = [&](auto... x) { return static_cast<double>(f(x...)); };
  double sum = 0;
  for (Index i = 0; i < count; ++i) sum += of_copies(at[i]...);
  return sum;
}

}  // namespace lnfree::reference
