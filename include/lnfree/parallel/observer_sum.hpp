#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include <lnfree/core/concepts.hpp>
#include <lnfree/parallel/communicator.hpp>
#include <lnfree/parallel/tree.hpp>

namespace lnfree {

/// Stands for a function of any array.
struct AnyArray {
  /// Does nothing.
  template <class T>
  void operator()(T*, std::size_t) const {}
};

/// An observer whose sums over passes can be read and restored: for_each_sum(f) calls f(first, count) for
/// each array that passes add to. Integers are exact up to 2^53.
template <class O>
concept SumsPasses = requires(O observer) { observer.for_each_sum(AnyArray{}); };

/// Whether an observer can combine the passes of several processes.
template <class O>
inline constexpr bool observes_across_ranks = !Observes<O>::anything || SumsPasses<O>;

/// Sums the observers of all ranks.
template <class Observer>
class ObserverSum {
  using Sums = std::vector<double>;  // empty if no pass was made, since arrays may not have their size yet

 public:
  /// Call before the passes of a leaf of the tree.
  void begin_leaf(Observer& observer) { observer.reset(); }

  /// Call after the `passes` passes of leaf number `leaf` of the branch.
  void end_leaf(Observer& observer, const Branch& branch, int leaf, std::int64_t passes) {
    if constexpr (SumsPasses<Observer>) {
      waiting_.resize(static_cast<std::size_t>(branch.levels()));
      sums_.clear();
      if (passes > 0) {
        observer.for_each_sum([&](const auto* first, std::size_t count) {
          for (std::size_t i = 0; i < count; ++i) sums_.push_back(static_cast<double>(first[i]));
        });
      }
      branch.leaf_done(
          leaf, [&](int level) { add(waiting_[static_cast<std::size_t>(level)]); },
          [&](int level) { std::swap(waiting_[static_cast<std::size_t>(level)], sums_); });
    }
  }

  /// Stores the sums over the leaves of all ranks in the observer; does nothing on a rank that has made no
  /// pass.
  template <Communicator C>
  void finish(Observer& observer, const C& ranks) {
    if constexpr (SumsPasses<Observer>) {
      Sums others;
      for (int distance = 1; distance < ranks.size(); distance *= 2) {
        const int partner = ranks.rank() ^ distance;
        const auto own_size = static_cast<double>(sums_.size());
        double size = 0;
        ranks.exchange(partner, &own_size, sizeof(double), &size, sizeof(double));
        others.resize(static_cast<std::size_t>(size));
        ranks.exchange(partner, sums_.data(), sums_.size() * sizeof(double), others.data(),
                       others.size() * sizeof(double));
        add(others);
      }
      std::size_t size = 0;
      observer.for_each_sum([&](const auto*, std::size_t count) { size += count; });
      if (size != sums_.size()) return;
      std::size_t from = 0;
      observer.for_each_sum([&]<class T>(T* first, std::size_t count) {
        for (std::size_t i = 0; i < count; ++i) first[i] = static_cast<T>(sums_[from++]);
      });
    }
  }

 private:
  void add(const Sums& more) {
    if (sums_.empty()) sums_.resize(more.size());
    for (std::size_t i = 0; i < more.size(); ++i) sums_[i] += more[i];
  }

  Sums sums_;
  std::vector<Sums> waiting_;
};

}  // namespace lnfree
