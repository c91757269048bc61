#pragma once

#include <bit>
#include <concepts>
#include <cstdint>
#include <string>
#include <vector>

#include <lnfree/core/error.hpp>
#include <lnfree/core/tensor.hpp>
#include <lnfree/parallel/communicator.hpp>

/// The tree that sums over passes. Its leaves are equal runs of passes, each summed one pass after the other.
/// The sums of leaves are added in pairs, then pairs of those, and so on. The tree depends only on the number
/// of passes, and each rank has a whole branch of it, so any number of ranks gives the same bits.
namespace lnfree {

/// How many leaves the tree over a step of `passes` passes has: the largest power of two that divides them,
/// but no more than `max_leaves`.
constexpr int leaves_of(int passes, int max_leaves) {
  int leaves = 1;
  while (2 * leaves <= max_leaves && passes % (2 * leaves) == 0) leaves *= 2;
  return leaves;
}

/// Divides `count` items into `parts` parts of nearly equal size: a part begins at first(part) and ends
/// before first(part + 1). The first part is never empty.
struct Division {
  /// Number of items.
  std::int64_t count;
  /// Number of parts.
  int parts;
  /// Where a part begins.
  constexpr std::int64_t first(int part) const { return (part * count + parts - 1) / parts; }
};

/// The leaves of one rank, a branch of the tree.
struct Branch {
  /// Number of its first leaf in the tree.
  int first_leaf;
  int leaves;  ///< Number of its leaves, a power of two.

  /// The branch of the calling rank.
  template <Communicator C>
  static Branch of(const C& ranks, int all_leaves) {
    const int own = all_leaves / ranks.size();
    return {ranks.rank() * own, own};
  }

  /// The maximum number of sums that wait for their other half.
  constexpr int levels() const { return std::countr_zero(static_cast<unsigned>(leaves)); }

  /// After leaf number `leaf` of this branch: calls add(level) for each sum of 2^level leaves that is now
  /// added to the present one, then keep(level) if the result has to wait.
  template <class Add, class Keep>
  void leaf_done(int leaf, const Add& add, const Keep& keep) const {
    int level = 0;
    for (; ((leaf >> level) & 1) == 1; ++level) add(level);
    if (leaf + 1 < leaves) keep(level);
  }
};

/// Throws Error unless the ranks can share the leaves of a step of that many passes.
template <Communicator C>
void require_fitting_ranks(const C& ranks, int passes) {
  const int leaves = leaves_of(passes, C::max_leaves), size = ranks.size();
  if (std::has_single_bit(static_cast<unsigned>(size)) && leaves % size == 0) return;
  std::string choice = "1";
  for (int n = 2; n <= leaves; n *= 2) choice += (2 * n > leaves ? " or " : ", ") + std::to_string(n);
  throw Error("a step of " + std::to_string(passes) + " passes (--accumulate) cannot be shared by " +
              std::to_string(size) + (size == 1 ? " rank" : " ranks") + ": start " + choice +
              (leaves == 1 ? " rank" : " ranks") +
              ", or take more passes of fewer windows, their number a multiple of a power of two of ranks");
}

}  // namespace lnfree
