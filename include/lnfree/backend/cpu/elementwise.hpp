#pragma once

#include <array>
#include <type_traits>

#include <lnfree/backend/cpu/device.hpp>
#include <lnfree/core/tensor.hpp>

namespace lnfree::cpu {

/// f(a_i, ...) on copies of the elements in float, which then go to the arrays that can be written.
template <class F, class... T>
[[gnu::always_inline]] inline void element(const F& f, Index i, T*... at) {
  const auto on_copies = [&](auto... x) __attribute__((always_inline)) {
    f(x...);
    const auto put_back = []<class U>(U* to, float value) __attribute__((always_inline)) {
      if constexpr (!std::is_const_v<U>) *to = value;
    };
    (put_back(at + i, x), ...);
  };
  on_copies(static_cast<float>(at[i])...);
}

template <CpuDevice D, class F, class... T>
void for_each_element(D&, Index count, const F& f, T*... at) {
  parallel_for(count, elementwise_grain, [&](Index begin, Index end) {
    const F function = f;  // a copy that no array can overlap
#pragma omp simd
    for (Index i = begin; i < end; ++i) element(function, i, at...);
  });
}

template <CpuDevice D, class F, class... T>
double sum_of(D&, Index count, const F& f, T*... at) {
  // A fixed number of partial sums, so that the result does not depend on the thread count.
  std::array<double, 256> partial{};
  const Index parts = static_cast<Index>(partial.size());
  parallel_for(parts, count < elementwise_grain ? parts : 1, [&](Index first, Index last) {
    const F function = f;
    for (Index part = first; part < last; ++part) {
      double sum = 0;
      const Index end = count * (part + 1) / parts;
#pragma omp simd reduction(+ : sum)
      for (Index i = count * part / parts; i < end; ++i) {
        sum += [&](auto... x) __attribute__((always_inline)) { return static_cast<double>(function(x...)); }
        (static_cast<float>(at[i])...);
      }
      partial[static_cast<std::size_t>(part)] = sum;
    }
  });
  double total = 0;
  for (const double sum : partial) total += sum;
  return total;
}

}  // namespace lnfree::cpu
