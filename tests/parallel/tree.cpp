#include "lnfree/parallel/tree.hpp"

#include <algorithm>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <lnfree/device/cpu/cpu.hpp>
#include <lnfree/nn/parameter.hpp>
#include <lnfree/parallel/data_parallel.hpp>

using namespace lnfree;

namespace {

/// A rank's number and the number of ranks, for code that needs only these.
struct RankOf {
  static constexpr int max_leaves = 64;
  int number = 0, all = 1;
  int rank() const { return number; }
  int size() const { return all; }
  static int local_size() { return 1; }
  static std::vector<double> gather(std::span<const double>) { return {}; }
  static void broadcast(void*, std::size_t, int) {}
  static void exchange(int, const void*, std::size_t, void*, std::size_t) {}
  static void barrier() {}
  static std::uint64_t bytes_sent() { return 0; }
  static double seconds_waited() { return 0; }
};

std::string both(const std::string& a, const std::string& b) {
  return std::string("(").append(a).append("+").append(b).append(")");
}

/// The sum over a branch, as text: "((0+1)+(2+3))".
std::string sum_over(const Branch& branch) {
  std::string sum;
  std::vector<std::string> waiting(static_cast<std::size_t>(branch.levels()));
  for (int leaf = 0; leaf < branch.leaves; ++leaf) {
    sum = std::to_string(branch.first_leaf + leaf);
    branch.leaf_done(
        leaf, [&](int level) { sum = both(waiting.at(static_cast<std::size_t>(level)), sum); },
        [&](int level) { waiting.at(static_cast<std::size_t>(level)) = sum; });
  }
  return sum;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(tree)

BOOST_AUTO_TEST_CASE(leaves_are_the_largest_power_of_two) {
  const std::vector<std::pair<int, int>> expected{{1, 1},   {2, 2},    {3, 1},  {12, 4},
                                                  {64, 64}, {128, 64}, {96, 32}};
  for (const auto& [passes, leaves] : expected) {
    BOOST_TEST(leaves_of(passes, 64) == leaves);
    BOOST_TEST(leaves_of(passes, 1) == 1);
  }
}

BOOST_AUTO_TEST_CASE(parts_cover_everything_once_and_the_first_has_something) {
  for (const std::int64_t count : {1, 2, 5, 63, 64, 65, 1000}) {
    const Division division{count, 64};
    BOOST_TEST(division.first(0) == 0);
    BOOST_TEST(division.first(1) >= 1);
    BOOST_TEST(division.first(64) == count);
    for (int part = 0; part < 64; ++part) {
      const auto size = division.first(part + 1) - division.first(part);
      BOOST_TEST((size == count / 64 || size == count / 64 + 1));
    }
  }
}

BOOST_AUTO_TEST_CASE(a_branch_sums_pair_by_pair) {
  BOOST_TEST(sum_over({0, 1}) == "0");
  BOOST_TEST(sum_over({4, 4}) == "((4+5)+(6+7))");
  // Two ranks have the two halves of one rank's sum.
  const auto whole = sum_over(Branch::of(RankOf{0, 1}, 8));
  const auto halves = both(sum_over(Branch::of(RankOf{0, 2}, 8)), sum_over(Branch::of(RankOf{1, 2}, 8)));
  BOOST_TEST(whole == halves);
}

BOOST_AUTO_TEST_CASE(ranks_that_do_not_fit_are_told_which_would) {
  require_fitting_ranks(RankOf{0, 4}, 12);
  const auto contains = [](const std::string& part) {
    return [=](const Error& error) { return std::string(error.what()).find(part) != std::string::npos; };
  };
  BOOST_CHECK_EXCEPTION(require_fitting_ranks(RankOf{0, 3}, 12), Error,
                        contains("3 ranks: start 1, 2 or 4 ranks"));
  BOOST_CHECK_EXCEPTION(require_fitting_ranks(RankOf{0, 8}, 12), Error,
                        contains("8 ranks: start 1, 2 or 4 ranks"));
  BOOST_CHECK_EXCEPTION(require_fitting_ranks(RankOf{0, 2}, 3), Error, contains("2 ranks: start 1 rank,"));
}

BOOST_AUTO_TEST_CASE(pieces_are_aligned_and_spare_matrices_where_asked) {
  Cpu device;
  ParameterSet<Cpu> parameters;
  for (const Index rows : {40, 7, 300}) {
    parameters.add(std::to_string(rows) + "m", {rows, 50}, ParameterKind::weight);
    parameters.add(std::to_string(rows) + "b", {rows * 3}, ParameterKind::bias);
  }
  parameters.allocate(device, false);
  std::set<Index> beginnings{parameters.range(ParameterKind::embedding).begin};
  for (const auto& parameter : parameters.all()) beginnings.insert(parameter.offset);
  for (const bool whole : {false, true}) {
    const Pieces pieces(parameters, 64, whole);
    BOOST_TEST(pieces.cuts().front() == 0);
    BOOST_TEST(pieces.cuts().back() == parameters.size());
    BOOST_TEST(std::is_sorted(pieces.cuts().begin(), pieces.cuts().end()));
    for (const Index cut : pieces.cuts()) {
      BOOST_TEST(cut % 16 == 0);
      if (whole && cut < parameters.range(ParameterKind::embedding).begin)
        BOOST_TEST(beginnings.contains(cut));
    }
    // Every share belongs to one rank.
    std::set<int> shares;
    for (int rank = 0; rank < 8; ++rank) shares.insert(Pieces::share_of(rank, 8));
    BOOST_TEST(shares.size() == 8u);
  }
}

BOOST_AUTO_TEST_SUITE_END()
