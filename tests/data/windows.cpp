#include "lnfree/data/windows.hpp"

#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <cstdint>
#include <filesystem>
#include <numeric>
#include <string>
#include <vector>

#include "lnfree/data/shard_set_writer.hpp"

#include "support/temporary_folder.hpp"

using lnfree::Error;
using lnfree::TokenShard;
using lnfree::WindowOrder;
using lnfree::Windows;

namespace {

// Tokens 0, 1, 2, ... cut into windows of `context` (0: unknown).
TokenShard counting_shard(const TemporaryFolder& folder, std::int32_t tokens, std::int64_t context) {
  lnfree::TokenShardWriter writer(folder / "s.bin", 100000);
  std::vector<std::int32_t> ids(static_cast<std::size_t>(tokens));
  std::iota(ids.begin(), ids.end(), 0);
  writer.append(ids);
  lnfree::ShardInfo info;
  info.context = context;
  writer.finish(info);
  return TokenShard::open(folder / "s.bin");
}

std::vector<std::int64_t> epoch(const WindowOrder& order, std::int64_t count, std::int64_t epoch) {
  std::vector<std::int64_t> visited;
  for (std::int64_t i = 0; i < count; ++i) visited.push_back(order(epoch * count + i));
  return visited;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(windows)

BOOST_AUTO_TEST_CASE(consecutive_and_the_short_last_one_dropped) {
  TemporaryFolder folder;
  const Windows windows(counting_shard(folder, 23, 0), 5, 23);
  BOOST_TEST(windows.count() == 4);
  BOOST_TEST(windows.context() == 5);
  std::vector<std::int32_t> window(5);
  windows.window(3, window.data());
  BOOST_TEST(window == (std::vector<std::int32_t>{15, 16, 17, 18, 19}), boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(a_split_in_several_shards_gives_the_windows_of_one) {
  TemporaryFolder folder;
  constexpr std::int64_t context = 4, shard_tokens = 12;
  const auto document = [](std::int32_t first, std::int32_t tokens) {
    std::vector<std::int32_t> ids(static_cast<std::size_t>(tokens));
    std::iota(ids.begin(), ids.end(), first);
    return ids;
  };
  const auto files = [&] {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(folder.path()))
      names.push_back(entry.path().filename().string());
    std::sort(names.begin(), names.end());
    return names;
  };
  for (const std::int32_t tokens : {8, 12, 40}) {
    lnfree::ShardInfo info;
    info.context = context;
    lnfree::ShardSetWriter one(folder / "one.bin", 100, 100, info),
        several(folder / "t.bin", 100, shard_tokens, info);
    for (std::int32_t first = 0; first < tokens; first += 8)
      for (auto* writer : {&one, &several}) writer->append(document(first, std::min(8, tokens - first)));
    BOOST_TEST(several.size() == tokens);
    for (auto* writer : {&one, &several}) writer->complete();
    for (const auto& name : files()) BOOST_TEST(name.front() == '.');
    for (auto* writer : {&one, &several}) writer->commit();
    const bool is_one = tokens <= shard_tokens;
    BOOST_TEST(std::ssize(several.files()) == (is_one ? 1 : 4));
    BOOST_TEST(several.files().front() == folder / (is_one ? "t.bin" : "t_000001.bin"));
    BOOST_TEST(std::ssize(files()) == 2 + 2 * std::ssize(several.files()));
    const std::filesystem::path pattern = folder / (is_one ? "t.bin" : "t_*.bin");
    const Windows expected(TokenShard::open(folder / "one.bin"), context, 100);
    const Windows windows(lnfree::ShardSet::open({&pattern, 1}), context, 100);
    BOOST_REQUIRE(windows.count() == expected.count());
    std::vector<std::int32_t> window(context), other(context);
    for (std::int64_t i = 0; i < windows.count(); ++i) {
      windows.window(i, window.data());
      expected.window(i, other.data());
      BOOST_TEST(window == other, boost::test_tools::per_element());
    }
    if (!is_one) {  // a document counts where it begins
      BOOST_TEST(several.documents() == (std::vector<std::int64_t>{2, 1, 2, 0}),
                 boost::test_tools::per_element());
      BOOST_TEST(lnfree::read_shard_info(folder / "t_000003.bin")->documents == 2);
    }
    for (const auto& name : files()) std::filesystem::remove(folder / name);
  }
}

BOOST_AUTO_TEST_CASE(shards_one_after_the_other) {
  TemporaryFolder folder;
  const auto write = [&](const char* name, std::vector<std::int32_t> tokens) {
    lnfree::TokenShardWriter writer(folder / name, 100000);
    writer.append(tokens);
    writer.finish({});
  };
  write("t_2.bin", {20, 21, 22, 23, 24});  // the last token does not fill a window
  write("t_10.bin", {10, 11, 12, 13});
  write("t_1.bin", {1});  // not one window
  write("t_3.bin", {30, 31});
  write("other.bin", {90, 91});
  const auto open = [&](std::vector<std::filesystem::path> patterns) {
    return lnfree::ShardSet::open(patterns);
  };
  // Ordered by name, each file once, however it was given.
  const Windows windows(open({folder / "t_3.bin", folder / "t_*.bin", folder / "./t_2.bin"}), 2, 100);
  BOOST_REQUIRE(windows.count() == 5);
  std::vector<std::int32_t> seen(10);
  for (int i = 0; i < 5; ++i) windows.window(i, seen.data() + 2 * i);
  BOOST_TEST(seen == (std::vector<std::int32_t>{10, 11, 12, 13, 20, 21, 22, 23, 30, 31}),
             boost::test_tools::per_element());
  BOOST_TEST(windows.shards().shards().size() == 4u);
  BOOST_TEST(windows.shards().name() == (folder / "t_1.bin").string() + " and 3 more");

  // One fingerprint for all; a single shard keeps its own.
  const auto fingerprint = windows.shards().fingerprint();
  BOOST_TEST(open({folder / "t_?.bin", folder / "t_10.bin"}).fingerprint() == fingerprint);
  BOOST_TEST(open({folder / "t_[23].bin"}).fingerprint() != fingerprint);
  BOOST_TEST(open({folder / "o*.bin"}).fingerprint() == TokenShard::open(folder / "other.bin").fingerprint());
  write("t_3.bin", {30, 32});
  BOOST_TEST(open({folder / "t_*.bin"}).fingerprint() != fingerprint);

  BOOST_CHECK_EXCEPTION(open({folder / "none_*.bin"}), Error, contains("no file matches", "none_*.bin"));
  BOOST_CHECK_EXCEPTION(open({folder / "none.bin"}), Error, contains("cannot read", "none.bin"));
  BOOST_CHECK_EXCEPTION(open({}), Error, contains("no token shard"));
  BOOST_CHECK_EXCEPTION(Windows(open({folder / "t_*.bin"}), 6, 100), Error,
                        contains("t_1.bin and 3 more", "12 tokens"));
  BOOST_CHECK_EXCEPTION(Windows(open({folder / "t_*.bin"}), 2, 31), Error,
                        contains("t_3.bin", "token 1", "id 32"));
  write("[x].bin", {1, 2});  // a name, not a pattern
  BOOST_TEST(open({folder / "[x].bin"}).shards().size() == 1u);
}

BOOST_AUTO_TEST_CASE(bare_tokens_are_held_against_their_own_vocabulary) {
  TemporaryFolder folder;
  const auto path = folder.write("a.bin", std::string("\x07\0\x09\0", 4));
  BOOST_TEST(Windows(TokenShard::open(path, 10), 2, 100).count() == 1);
  BOOST_CHECK_EXCEPTION(Windows(TokenShard::open(path, 9), 2, 100), Error,
                        contains("token 1", "its vocabulary of 9"));
}

BOOST_AUTO_TEST_CASE(a_shorter_context_must_divide_the_chunks) {
  TemporaryFolder folder;
  BOOST_TEST(Windows(counting_shard(folder, 24, 12), 4, 24).count() == 6);
  BOOST_CHECK_EXCEPTION(Windows(counting_shard(folder, 24, 12), 5, 24), Error,
                        contains("s.bin", "12", "--context 5"));
  BOOST_CHECK_EXCEPTION(Windows(counting_shard(folder, 24, 12), 24, 24), Error, contains("12", "24"));
}

BOOST_AUTO_TEST_CASE(bad_input_says_what_is_wrong) {
  TemporaryFolder folder;
  BOOST_CHECK_EXCEPTION(Windows(counting_shard(folder, 30, 0), 10, 25), Error,
                        contains("s.bin", "token 25", "id 25", "vocabulary of 25"));
  BOOST_CHECK_EXCEPTION(Windows(counting_shard(folder, 9, 0), 10, 25), Error,
                        contains("9 tokens", "not one window"));
  for (const int context : {-1, 0, 1}) {
    BOOST_CHECK_EXCEPTION(Windows(counting_shard(folder, 9, 0), context, 25), Error,
                          contains("window of " + std::to_string(context), "at least 2"));
  }
  auto shard = counting_shard(folder, 30, 0);
  folder.write("s.json", R"({"tokens": 29})");
  BOOST_CHECK_EXCEPTION(Windows(std::move(shard), 10, 30), Error, contains("s.json", "29", "30"));
}

BOOST_AUTO_TEST_CASE(shuffled_epochs_are_permutations) {
  for (const std::int64_t count : {1, 2, 3, 4, 5, 7, 64, 1000, 65537}) {
    const WindowOrder order(count, 42, true);
    for (const std::int64_t e : {0, 1, 5}) {
      auto visited = epoch(order, count, e);
      std::sort(visited.begin(), visited.end());
      std::vector<std::int64_t> all(static_cast<std::size_t>(count));
      std::iota(all.begin(), all.end(), 0);
      BOOST_TEST((visited == all), "count " << count << ", epoch " << e);
    }
  }
}

BOOST_AUTO_TEST_CASE(epochs_and_seeds_differ_and_repeat) {
  const WindowOrder order(1000, 42, true);
  const auto first = epoch(order, 1000, 0);
  BOOST_TEST((first != epoch(order, 1000, 1)));
  BOOST_TEST((first != epoch(WindowOrder(1000, 43, true), 1000, 0)));
  BOOST_TEST((first == epoch(WindowOrder(1000, 42, true), 1000, 0)));
}

BOOST_AUTO_TEST_CASE(shuffled_means_shuffled) {
  // Of a random permutation: one fixed point and one kept neighbor expected, correlation with the file order
  // of standard deviation 1 / sqrt(n) = 0.01. The bounds are ten times wider.
  const std::int64_t count = 10007;
  for (const std::uint64_t seed : {0, 1, 2}) {
    const auto visited = epoch(WindowOrder(count, seed, true), count, 0);
    std::int64_t fixed = 0, neighbors = 0;
    double correlation = 0;
    const double mean = static_cast<double>(count - 1) / 2, n = static_cast<double>(count);
    for (std::int64_t i = 0; i < count; ++i) {
      const auto here = visited[static_cast<std::size_t>(i)];
      fixed += here == i;
      neighbors += i > 0 && here == visited[static_cast<std::size_t>(i - 1)] + 1;
      correlation += (static_cast<double>(i) - mean) * (static_cast<double>(here) - mean);
    }
    correlation /= n * (n * n - 1) / 12;
    BOOST_TEST(fixed < 10);
    BOOST_TEST(neighbors < 10);
    BOOST_TEST(std::abs(correlation) < 0.1);
  }
}

BOOST_AUTO_TEST_CASE(file_order_without_shuffling) {
  const WindowOrder order(3, 42, false);
  std::vector<std::int64_t> visited;
  for (std::int64_t i = 0; i < 7; ++i) visited.push_back(order(i));
  BOOST_TEST(visited == (std::vector<std::int64_t>{0, 1, 2, 0, 1, 2, 0}), boost::test_tools::per_element());
  BOOST_CHECK_THROW(WindowOrder(0, 1, true), Error);
}

BOOST_AUTO_TEST_SUITE_END()
