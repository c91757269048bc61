#include "lnfree/data/token_shard.hpp"

#include <boost/test/unit_test.hpp>
#include <cstdint>
#include <string>
#include <vector>

#include "support/temporary_folder.hpp"

using lnfree::Error;
using lnfree::ShardInfo;
using lnfree::TokenShard;
using lnfree::TokenShardWriter;

namespace {

// A shard built byte by byte, not by the writer under test.
template <typename Token>
std::string raw_shard(std::int32_t magic, std::int32_t version, std::int32_t count,
                      std::vector<Token> tokens) {
  std::string bytes(1024, '\0');
  std::memcpy(&bytes[0], &magic, 4);
  std::memcpy(&bytes[4], &version, 4);
  std::memcpy(&bytes[8], &count, 4);
  bytes.append(reinterpret_cast<const char*>(tokens.data()), tokens.size() * sizeof(Token));
  return bytes;
}

std::vector<std::int32_t> contents(const TokenShard& shard) {
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(shard.size()));
  shard.copy(0, shard.size(), tokens.data());
  return tokens;
}

std::vector<std::string> files_in(const TemporaryFolder& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder.path()))
    names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(token_shard)

BOOST_AUTO_TEST_CASE(reads_uint16_and_uint32_tokens) {
  TemporaryFolder folder;
  const auto narrow =
      TokenShard::open(folder.write("a.bin", raw_shard<std::uint16_t>(20240520, 1, 4, {7, 0, 65535, 40000})));
  BOOST_TEST(contents(narrow) == (std::vector<std::int32_t>{7, 0, 65535, 40000}),
             boost::test_tools::per_element());
  BOOST_TEST(narrow[2] == 65535);
  BOOST_TEST(narrow.max_token() == 65535);

  const auto wide =
      TokenShard::open(folder.write("b.bin", raw_shard<std::uint32_t>(20240801, 7, 3, {100000, 1, 70000})));
  BOOST_TEST(contents(wide) == (std::vector<std::int32_t>{100000, 1, 70000}),
             boost::test_tools::per_element());
  BOOST_TEST(wide[2] == 70000);
  BOOST_TEST(wide.max_token() == 100000);
  std::int32_t one = 0;
  wide.copy(1, 1, &one);
  BOOST_TEST(one == 1);
}

BOOST_AUTO_TEST_CASE(an_id_beyond_int32_is_the_largest_not_negative) {
  TemporaryFolder folder;
  const auto shard =
      TokenShard::open(folder.write("a.bin", raw_shard<std::uint32_t>(20240801, 7, 2, {5, 0xFFFFFFFF})));
  BOOST_TEST(shard.max_token() == std::numeric_limits<std::int32_t>::max());
}

BOOST_AUTO_TEST_CASE(offsets_beyond_2_gib) {
  // Sparse: the header claims 1.2e9 tokens of 2 bytes, of which only the last is written.
  TemporaryFolder folder;
  const auto path = folder.write("big.bin", raw_shard<std::uint16_t>(20240520, 1, 1'200'000'000, {}));
  std::filesystem::resize_file(path, 1024 + 2 * std::uintmax_t{1'200'000'000});
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(-2, std::ios::end);
  const std::uint16_t token = 4711;
  file.write(reinterpret_cast<const char*>(&token), 2);
  file.close();
  const auto shard = TokenShard::open(path);
  BOOST_TEST(shard.size() == 1'200'000'000);
  BOOST_TEST(shard[1'199'999'999] == 4711);
  std::int32_t pair[2];
  shard.copy(1'199'999'998, 2, pair);
  BOOST_TEST(pair[0] == 0);
  BOOST_TEST(pair[1] == 4711);
}

BOOST_AUTO_TEST_CASE(the_fingerprint_is_that_of_the_tokens) {
  TemporaryFolder folder;
  const auto of = [&](const std::string& name, std::vector<std::uint16_t> tokens) {
    const auto count = static_cast<std::int32_t>(tokens.size());
    return TokenShard::open(folder.write(name, raw_shard<std::uint16_t>(20240520, 1, count, tokens)))
        .fingerprint();
  };
  std::vector<std::uint16_t> tokens(1000);
  for (std::size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<std::uint16_t>(i % 7);
  const auto first = of("a.bin", tokens);
  BOOST_TEST(of("elsewhere/b.bin", tokens) == first);
  for (const std::size_t at : {0, 31, 32, 500, 999}) {
    auto other = tokens;
    ++other[at];
    BOOST_TEST(of("c.bin", other) != first);
    other[at] = 0;
    std::swap(other[at], other[(at + 1) % 1000]);
    if (other != tokens) BOOST_TEST(of("c.bin", other) != first);
  }
  tokens.push_back(0);
  BOOST_TEST(of("d.bin", tokens) != first);
}

BOOST_AUTO_TEST_CASE(can_be_moved) {
  TemporaryFolder folder;
  auto first = TokenShard::open(folder.write("a.bin", raw_shard<std::uint16_t>(20240520, 1, 1, {3})));
  auto second = TokenShard::open(folder.write("b.bin", raw_shard<std::uint16_t>(20240520, 1, 1, {4})));
  TokenShard moved(std::move(first));
  BOOST_TEST(moved[0] == 3);
  moved = std::move(second);
  BOOST_TEST(moved[0] == 4);
  BOOST_TEST(moved.path().filename().string() == "b.bin");
}

BOOST_AUTO_TEST_CASE(bare_tokens_whose_vocabulary_is_known) {
  TemporaryFolder folder;
  const std::string bare = raw_shard<std::uint16_t>(0, 0, 0, {7, 0, 65535, 3}).substr(1024);
  const auto path = folder.write("a.bin", bare);
  BOOST_CHECK_EXCEPTION(TokenShard::open(path), Error,
                        contains("a.bin", "not a token shard", "--vocab-size"));
  for (const bool described : {false, true}) {
    if (described) folder.write("meta.json", R"({"vocab_size": 65536, "tokens": "many"})");
    const auto shard = TokenShard::open(path, described ? 0 : 70000);
    BOOST_TEST(contents(shard) == (std::vector<std::int32_t>{7, 0, 65535, 3}),
               boost::test_tools::per_element());
    BOOST_TEST(shard.vocab_size() == (described ? 65536 : 70000));
    BOOST_TEST(shard.max_token() == 65535);
  }
  BOOST_CHECK_EXCEPTION(TokenShard::open(folder.write("odd.bin", bare + "x")), Error,
                        contains("odd.bin", "9 bytes"));
  // A header takes precedence over a given vocabulary size.
  const auto whole = folder.write("b.bin", raw_shard<std::uint16_t>(20240520, 1, 1, {3}));
  BOOST_TEST(TokenShard::open(whole, 5).size() == 1);
  BOOST_TEST(TokenShard::open(whole, 5).vocab_size() == 0);
  for (const char* bad : {"{", "[]", "{}", R"({"vocab_size": "many"})", R"({"vocab_size": 0})",
                          R"({"vocab_size": -1})", R"({"vocab_size": 1e99})"}) {
    folder.write("meta.json", bad);
    BOOST_CHECK_EXCEPTION(TokenShard::open(path), Error, contains("meta.json", "a.bin", "fix or remove"));
    BOOST_TEST(TokenShard::open(path, 65536).size() == 4);
    // It is ignored for a shard with a header.
    BOOST_TEST(TokenShard::open(whole).size() == 1);
    BOOST_TEST(!lnfree::read_shard_info(whole).has_value());
  }
  // What is not a file is not waited for.
  std::filesystem::remove(folder / "meta.json");
  std::filesystem::create_directory(folder / "meta.json");
  ::mkfifo((folder / "a.json").c_str(), 0600);
  BOOST_CHECK_EXCEPTION(TokenShard::open(path), Error, contains("a.json", "is not a file"));
  std::filesystem::remove(folder / "a.json");
  BOOST_CHECK_EXCEPTION(TokenShard::open(path), Error, contains("meta.json", "is not a file"));
}

BOOST_AUTO_TEST_CASE(bad_shards_say_what_is_wrong) {
  TemporaryFolder folder;
  const auto refuses = [&](const std::filesystem::path& path, auto... words) {
    BOOST_CHECK_EXCEPTION(TokenShard::open(path), Error, contains(path.filename().c_str(), words...));
  };
  refuses(folder / "missing.bin", "cannot read", "No such file");
  refuses(folder.write("empty.bin", ""), "is empty");
  refuses(folder.path(), "is not a file");
  refuses(folder.write("text.bin", "import os\n"), "not a token shard");
  refuses(folder.write("tiny.bin", "ab"), "not a token shard");
  refuses(folder.write("version.bin", raw_shard<std::uint16_t>(20240520, 2, 0, {})), "version 2",
          "version 1");
  refuses(folder.write("cut.bin", raw_shard<std::uint16_t>(20240520, 1, 3, {1, 2})), "truncated", "3 tokens",
          "holds 2");
  refuses(folder.write("huge.bin", raw_shard<std::uint32_t>(20240801, 7, 2147483647, {1})), "truncated",
          "2147483647");
  refuses(folder.write("header.bin", raw_shard<std::uint16_t>(20240520, 1, 0, {}).substr(0, 600)),
          "truncated", "600 bytes");
  refuses(folder.write("negative.bin", raw_shard<std::uint16_t>(20240520, 1, -1, {})), "negative");
  refuses(folder.write("trailing.bin", raw_shard<std::uint16_t>(20240520, 1, 1, {1, 2, 3})), "4 bytes after");
}

BOOST_AUTO_TEST_CASE(the_writer_makes_the_format) {
  TemporaryFolder folder;
  for (const std::int64_t vocab_size : {65536, 65537}) {
    TokenShardWriter writer(folder / "s.bin", vocab_size);
    writer.append(std::vector<std::int32_t>{1, 65535});
    writer.append(std::vector<std::int32_t>{});
    writer.append(std::vector<std::int32_t>{0});
    BOOST_TEST(writer.size() == 3);
    ShardInfo info;
    info.context = 3;
    info.documents = 2;
    info.tokenizer = "tokenizer.model";
    info.tokenizer_fingerprint = "0123456789abcdef";
    info.split = "train";
    writer.finish(info);
    const auto expected = vocab_size == 65536 ? raw_shard<std::uint16_t>(20240520, 1, 3, {1, 65535, 0})
                                              : raw_shard<std::uint32_t>(20240801, 7, 3, {1, 65535, 0});
    BOOST_TEST((read_file(folder / "s.bin") == expected));
    const auto read = lnfree::read_shard_info(folder / "s.bin");
    BOOST_REQUIRE(read.has_value());
    BOOST_TEST(read->vocab_size == vocab_size);
    BOOST_TEST(read->context == 3);
    BOOST_TEST(read->documents == 2);
    BOOST_TEST(read->tokens == 3);
    BOOST_TEST(read->tokenizer == "tokenizer.model");
    BOOST_TEST(read->tokenizer_fingerprint == "0123456789abcdef");
    BOOST_TEST(read->split == "train");
    BOOST_TEST(files_in(folder) == (std::vector<std::string>{"s.bin", "s.json"}),
               boost::test_tools::per_element());
  }
}

BOOST_AUTO_TEST_CASE(an_unfinished_writer_leaves_what_was_there) {
  TemporaryFolder folder;
  folder.write("s.bin", "older");
  {
    TokenShardWriter writer(folder / "s.bin", 10);
    writer.append(std::vector<std::int32_t>(100000, 1));
    BOOST_TEST(read_file(folder / "s.bin") == "older");
  }
  BOOST_TEST(files_in(folder) == std::vector<std::string>{"s.bin"}, boost::test_tools::per_element());
  BOOST_TEST(read_file(folder / "s.bin") == "older");
}

BOOST_AUTO_TEST_CASE(a_writer_goes_on_behind_a_killed_one) {
  TemporaryFolder folder;
  for (const std::int64_t vocab_size : {100, 100'000}) {
    std::string left;
    {
      TokenShardWriter killed(folder / "s.bin", vocab_size);
      killed.append(std::vector<std::int32_t>{1, 2, 3});
      killed.flush();
      killed.append(std::vector<std::int32_t>{9, 9});
      killed.flush();
      left = read_file(lnfree::AtomicFile::temporary_of(folder / "s.bin"));
    }
    const auto temporary = folder.write(".s.bin.tmp", left);
    BOOST_CHECK_EXCEPTION(TokenShardWriter(folder / "s.bin", vocab_size, 6), Error,
                          contains(".s.bin.tmp", "no longer holds"));
    BOOST_TEST((read_file(temporary) == left));
    TokenShardWriter writer(folder / "s.bin", vocab_size, 3);
    BOOST_TEST(writer.size() == 3);
    writer.append(std::vector<std::int32_t>{4});
    writer.finish({});
    BOOST_TEST(contents(TokenShard::open(folder / "s.bin")) == (std::vector<std::int32_t>{1, 2, 3, 4}),
               boost::test_tools::per_element());
  }
}

BOOST_AUTO_TEST_CASE(the_writer_refuses) {
  TemporaryFolder folder;
  TokenShardWriter writer(folder / "s.bin", 10);
  BOOST_CHECK_EXCEPTION(writer.append(std::vector<std::int32_t>{1, 10}), Error,
                        contains("s.bin", "id 10", "10 entries"));
  BOOST_CHECK_EXCEPTION(writer.append(std::vector<std::int32_t>{-1}), Error, contains("id -1"));
  BOOST_TEST(writer.size() == 0);
  BOOST_CHECK_EXCEPTION(TokenShardWriter(folder / "s.bin", 10), Error, contains("s.bin", "another process"));
  BOOST_CHECK_EXCEPTION(TokenShardWriter(folder / "no/s.bin", 10), Error,
                        contains("s.bin", "cannot be written"));
  BOOST_TEST(lnfree::make_shard_header(2147483647, 2)[2] == 2147483647);
  BOOST_CHECK_EXCEPTION(lnfree::make_shard_header(2147483648, 2), Error,
                        contains("2147483648", "several shards"));
}

BOOST_AUTO_TEST_CASE(the_description_may_be_absent_partial_or_broken) {
  TemporaryFolder folder;
  BOOST_TEST(!lnfree::read_shard_info(folder / "s.bin").has_value());
  folder.write("s.json", R"({"context": 64, "other": [1]})");
  BOOST_TEST(lnfree::read_shard_info(folder / "s.bin")->context == 64);
  BOOST_TEST(lnfree::read_shard_info(folder / "s.bin")->tokens == 0);
  for (const char* broken : {"", "{", R"({"context": "long"})", "[1, 2]"}) {
    folder.write("s.json", broken);
    BOOST_CHECK_EXCEPTION(lnfree::read_shard_info(folder / "s.bin"), Error, contains("s.json", "s.bin"));
  }
}

BOOST_AUTO_TEST_SUITE_END()
