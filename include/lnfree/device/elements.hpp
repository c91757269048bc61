#pragma once

#include <array>
#include <type_traits>

#include <lnfree/core/macros.hpp>
#include <lnfree/core/tensor.hpp>
#include <lnfree/device/cores.hpp>

/// Elementwise functions for the devices that compute on the processor's cores.
namespace lnfree {

/// Calls f(a_i, ...) on copies of the elements as `Computed` and stores them in the arrays that are not
/// const. A separate function, because g++ does not vectorize a loop in which an object is declared.
template <class Computed, class F, class... T>
[[gnu::always_inline]] inline void apply_to_element(const F& f, Index i, T*... at) {
  const auto on_copies = [&](auto... x) LNFREE_INLINE_LAMBDA {
    f(x...);
    const auto put_back = []<class U>(U* to, Computed value) LNFREE_INLINE_LAMBDA {
      if constexpr (!std::is_const_v<U>) *to = value;
    };
    (put_back(at + i, x), ...);
  };
  on_copies(static_cast<Computed>(at[i])...);
}

/// for_each_element of primitives.hpp.
template <class Computed, class F, class... T>
void apply_to_elements(Index count, const F& f, T*... at) {
  parallel_for(count, elementwise_grain, [&](Index begin, Index end) {
    const F function = f;  // a copy that no array can overlap
#pragma omp simd
    for (Index i = begin; i < end; ++i) apply_to_element<Computed>(function, i, at...);
  });
}

/// sum_of of primitives.hpp: a fixed number of partial sums, so that the result does not depend on the thread
/// count.
template <class Computed, class F, class... T>
double sum_over_elements(Index count, const F& f, T*... at) {
  std::array<double, 256> partial{};
  const Index parts = static_cast<Index>(partial.size());
  parallel_for(parts, count < elementwise_grain ? parts : 1, [&](Index first, Index last) {
    const F function = f;
    const auto term = [&](Index i) LNFREE_INLINE_LAMBDA {
      return [&](auto... x) LNFREE_INLINE_LAMBDA {
        return static_cast<double>(function(x...));
      }(static_cast<Computed>(at[i])...);
    };
    for (Index part = first; part < last; ++part) {
      // Many independent sums, so that an addition does not wait for the previous one.
      constexpr int lanes = 32;
      double sums[lanes] = {};
      const Index end = count * (part + 1) / parts;
      Index i = count * part / parts;
      for (; i + lanes <= end; i += lanes) {
#pragma omp simd
        for (int lane = 0; lane < lanes; ++lane) sums[lane] += term(i + lane);
      }
      for (int lane = 0; i < end; ++i, ++lane) sums[lane] += term(i);
      double sum = 0;
      for (const double of_lane : sums) sum += of_lane;
      partial[static_cast<std::size_t>(part)] = sum;
    }
  });
  double total = 0;
  for (const double sum : partial) total += sum;
  return total;
}

}  // namespace lnfree
