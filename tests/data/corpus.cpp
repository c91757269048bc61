#include "lnfree/data/corpus.hpp"
#include "lnfree/data/content_hash.hpp"
#include "lnfree/data/document_sample.hpp"

#include <boost/test/unit_test.hpp>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "support/temporary_folder.hpp"

using lnfree::Corpus;
using lnfree::CorpusOptions;
using lnfree::Document;
using lnfree::Error;

namespace {

// Valid content of at least 100 bytes, different for each number.
std::string source(int number) {
  return "x = " + std::to_string(number) + "\n" + std::string(120, '#') + "\n";
}

CorpusOptions options(std::vector<std::filesystem::path> inputs) {
  CorpusOptions options;
  options.inputs = std::move(inputs);
  options.held_out = 0;
  return options;
}

struct Visit {
  std::vector<std::string> names, contents;
  std::map<std::string, bool> held_out;  // by content
  lnfree::CorpusCounts counts;

  explicit Visit(const CorpusOptions& options) {
    counts = Corpus(options).visit([&](const Document& document) {
      names.push_back(document.name);
      contents.emplace_back(document.content);
      held_out[contents.back()] = document.held_out;
    });
  }
};

std::string line(int number) {
  return lnfree::Json{{"repo_name", "r"}, {"path", "p.py"}, {"content", source(number)}}.dump() + "\n";
}

}  // namespace

BOOST_AUTO_TEST_SUITE(corpus)

BOOST_AUTO_TEST_CASE(utf8) {
  using lnfree::find_invalid_utf8;
  BOOST_TEST(!find_invalid_utf8("plain \xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80").has_value());
  BOOST_TEST(!find_invalid_utf8("").has_value());
  for (const char* bad : {"abc\xFF", "abc\x80", "abc\xC0\xAF", "abc\xC1\xBF", "abc\xE0\x80\x80",
                          "abc\xED\xA0\x80", "abc\xF0\x8F\xBF\xBF", "abc\xF4\x90\x80\x80",
                          "abc\xF5\x80\x80\x80", "abc\xE2\x82", "abc\xC3", "abc\xC3(", "abc\xF0\x9F\x98"})
    BOOST_TEST((find_invalid_utf8(bad) == std::size_t{3}));
}

BOOST_AUTO_TEST_CASE(a_folder_in_order_without_the_rest) {
  TemporaryFolder folder;
  folder.write("c/b.py", source(2));
  folder.write("c/a.py", source(1));
  folder.write("b.py", source(3));
  folder.write("d.py", source(2));                      // the same as c/b.py
  folder.write("small.py", "x = 1\n");                  // 6 bytes
  folder.write("large.py", std::string(1000001, '#'));  // 1 byte too many
  folder.write("exact.py", std::string(1000000, '#'));
  folder.write("hundred.py", std::string(100, '#'));
  folder.write("notes.txt", source(9));
  TemporaryFolder elsewhere;
  elsewhere.write("out.py", source(10));
  std::filesystem::create_symlink(elsewhere / "out.py", folder / "link.py");
  std::filesystem::create_directory_symlink(elsewhere.path(), folder / "linked");

  const Visit visit(options({folder.path()}));
  std::vector<std::string> names;
  for (const auto& name : visit.names)
    names.push_back(std::filesystem::path(name).lexically_relative(folder.path()).string());
  BOOST_TEST(names == (std::vector<std::string>{"b.py", "c/a.py", "c/b.py", "exact.py", "hundred.py"}),
             boost::test_tools::per_element());
  BOOST_TEST(visit.contents[2] == source(2));
  BOOST_TEST(visit.counts.seen == 8);
  BOOST_TEST(visit.counts.kept == 5);
  BOOST_TEST(visit.counts.duplicates == 1);
  BOOST_TEST(visit.counts.too_small == 1);
  BOOST_TEST(visit.counts.too_large == 1);
}

BOOST_AUTO_TEST_CASE(json_lines_across_read_blocks) {
  TemporaryFolder folder;
  std::string lines = "\n";
  for (int i = 0; i < 20000; ++i) lines += line(i);
  lines.pop_back();  // a last line without a newline is read, too
  BOOST_REQUIRE(lines.size() > 3u << 20);
  const Visit visit(options({folder.write("c.jsonl", lines)}));
  BOOST_REQUIRE(visit.counts.kept == 20000);
  for (int i = 0; i < 20000; ++i) BOOST_REQUIRE(visit.contents[static_cast<std::size_t>(i)] == source(i));
  BOOST_TEST(visit.names[1] == (folder / "c.jsonl").string() + ":3 r p.py");
}

BOOST_AUTO_TEST_CASE(the_same_content_counts_once_across_inputs) {
  TemporaryFolder folder;
  folder.write("a/a.py", source(1));
  const auto lines = folder.write("b.jsonl", line(1) + line(2));
  BOOST_TEST(Visit(options({folder / "a", lines})).counts.kept == 2);
}

BOOST_AUTO_TEST_CASE(lines_with_the_document_in_a_field) {
  const auto document = [](const char* line, const char* field = "") {
    lnfree::JsonLine json(line, field);
    return json.fault().empty() ? json.take_document() + "|" + json.origin() : json.fault();
  };
  BOOST_TEST(document(R"({"content": "a", "text": "b"})") == "a|");
  BOOST_TEST(document(R"({"text": "b", "content": "a"})") == "a|");
  BOOST_TEST(document(R"({"text": "b", "content": null})") == "b|");
  BOOST_TEST(document(R"({"content": "a", "text": "b"})", "text") == "b|");
  BOOST_TEST(document(R"({"x": {"content": "n"}, "y": [{"text": "n"}, "m"], "content": "a"})") == "a|");
  BOOST_TEST(document(R"({"content": {"content": "n"}, "text": "b"})") == "b|");
  BOOST_TEST(document(R"({"content": "a", "content": "b"})") == "b|");
  BOOST_TEST(document(R"({"path": "p\n.py", "content": "", "repo_name": "r"})") == "| r p\\x0a.py");
  for (const char* none : {"{}", "[]", "5", "\"content\"", R"([{"content": "a"}])", R"({"content": ["a"]})",
                           R"({"content": 5})", R"({"content": "a", "content": 5})", R"({"Content": "a"})"})
    BOOST_TEST(
        document(none).starts_with("is not a JSON object with the document in a string \"content\" or"));
  BOOST_TEST(document("{}", "x").ends_with("string \"x\""));
  for (const char* bad : {"{", R"({"content": "a"} x)", R"({"content": "a)", R"({"content": "\ud800"})", ""})
    BOOST_TEST(document(bad).starts_with("is not JSON"));
}

BOOST_AUTO_TEST_CASE(hashes_are_kept_once) {
  lnfree::ContentHashSet set;
  BOOST_TEST(set.insert({0, 0}));
  for (std::uint64_t i = 1; i < 5000; ++i) BOOST_REQUIRE(set.insert({i % 7, i}));
  for (std::uint64_t i = 1; i < 5000; ++i) BOOST_REQUIRE(!set.insert({i % 7, i}));
  BOOST_TEST(!set.insert({0, 0}));
  BOOST_TEST(set.insert({8, 1}));
}

#if defined(LNFREE_WITH_ZLIB) && defined(LNFREE_WITH_ZSTD)
BOOST_AUTO_TEST_CASE(packed_files_are_told_by_their_content) {
  std::string lines;
  for (int i = 0; i < 3000; ++i) lines += line(i);
  const auto gzip = [](const std::string& text) {
    TemporaryFolder folder;
    const gzFile file = ::gzopen((folder / "x").c_str(), "wb");
    ::gzwrite(file, text.data(), static_cast<unsigned>(text.size()));
    ::gzclose(file);
    return read_file(folder / "x");
  };
  const auto zstandard = [](const std::string& text) {
    std::string packed(ZSTD_compressBound(text.size()), '\0');
    packed.resize(ZSTD_compress(packed.data(), packed.size(), text.data(), text.size(), 1));
    return packed;
  };
  TemporaryFolder folder;
  const auto expected = Visit(options({folder.write("plain.jsonl", lines)})).contents;
  const std::string first = lines.substr(0, 100000), rest = lines.substr(100000);
  const std::vector<std::string> packings = {gzip(lines), gzip(first) + gzip(rest), zstandard(lines),
                                             zstandard(first) + zstandard(rest)};
  for (const auto& packed : packings) {
    for (const char* name : {"a.jsonl.gz", "a.json.gz", "a.zst", "a.jsonl"}) {
      auto given = options({folder.write(name, packed)});
      const Visit visit(given);
      BOOST_TEST((visit.contents == expected));
      BOOST_TEST(visit.names[1] == (folder / name).string() + ":2 r p.py");
    }
    // Truncated anywhere: everything before the end is read, and the line at which it ends is named.
    for (const std::size_t size : {packed.size() - 1, packed.size() / 2, std::size_t{5}}) {
      auto given = options({folder / "plain.jsonl", folder.write("cut.gz", packed.substr(0, size))});
      BOOST_CHECK_EXCEPTION(Visit{given}, Error, contains("cut.gz", "end too early", "--skip-invalid"));
      given.skip_invalid = true;
      const Visit visit(given);
      BOOST_TEST(visit.counts.unreadable == 1);
      BOOST_TEST((visit.contents == expected));
      BOOST_TEST(visit.counts.duplicates == visit.counts.seen - 3000);
      if (size > 5) BOOST_TEST(visit.counts.duplicates > 100);
    }
  }
  std::string damaged = packings[0];
  for (std::size_t i = 0; i < 8; ++i) damaged[damaged.size() / 2 + i] = '\xFF';
  BOOST_CHECK_EXCEPTION(Visit{options({folder.write("bad.gz", damaged)})}, Error,
                        contains("bad.gz", "are damaged"));
  BOOST_CHECK_EXCEPTION(
      Visit{options({folder.write("bad.zst", zstandard(lines).replace(40, 4, "\xFF\xFF\xFF\xFF"))})}, Error,
      contains("bad.zst", "Zstandard"));
  // Progress is measured in bytes of the file on disk.
  std::int64_t reached = 0;
  const Corpus corpus(options({folder.write("b.gz", packings[0])}));
  corpus.visit([&](const Document& document) { reached = document.input_bytes; });
  BOOST_TEST(reached == corpus.input_bytes());
  BOOST_TEST(reached == static_cast<std::int64_t>(packings[0].size()));
}
#endif

BOOST_AUTO_TEST_CASE(held_out_depends_on_content_and_seed_alone) {
  TemporaryFolder one, other;
  for (int i = 0; i < 2000; ++i) {
    one.write(std::to_string(i) + ".py", source(i));
    other.write(std::to_string(7 * i) + "/n.py", source(i));
  }
  auto first = options({one.path()});
  first.held_out = 0.1;
  auto second = first;
  second.inputs = {other.path()};
  const Visit visit(first);
  BOOST_TEST(visit.counts.held_out > 140);  // 200 expected, standard deviation 13.4
  BOOST_TEST(visit.counts.held_out < 260);
  BOOST_TEST(visit.counts.held_out + visit.counts.train == 2000);
  BOOST_TEST((visit.held_out == Visit(second).held_out));
  second.seed = 1;
  BOOST_TEST((visit.held_out != Visit(second).held_out));
}

BOOST_AUTO_TEST_CASE(held_out_inputs_win) {
  TemporaryFolder folder;
  folder.write("train/a.py", source(1));
  folder.write("train/b.py", source(2));
  folder.write("test/c.py", source(2));
  folder.write("test/d.py", source(3));
  auto both = options({folder / "train"});
  both.held_out_inputs = {folder / "test"};
  const Visit visit(both);
  BOOST_TEST((visit.held_out ==
              std::map<std::string, bool>{{source(1), false}, {source(2), true}, {source(3), true}}));
  BOOST_TEST(visit.counts.duplicates == 1);
}

BOOST_AUTO_TEST_CASE(a_corpus_that_cannot_be_used_says_why) {
  TemporaryFolder folder;
  const auto refuses = [](const CorpusOptions& options, auto... words) {
    BOOST_CHECK_EXCEPTION(Visit{options}, Error, contains(words...));
  };
  refuses(options({}), "no corpus");
  refuses(options({folder / "none"}), "none", "does not exist");
  std::filesystem::create_directory(folder / "void");
  refuses(options({folder / "void"}), "void", "empty");
  refuses(options({folder.write("void.jsonl", "")}), "void.jsonl", "empty");
  refuses(options({folder.write("c.txt", line(1))}), "c.txt", "neither a folder", ".jsonl");
  folder.write("short/a.py", "x\n");
  refuses(options({folder / "short"}), "short", "1 are under 100 bytes");
  auto fraction = options({folder / "short"});
  fraction.held_out = 1.5;
  refuses(fraction, "held-out fraction");
}

BOOST_AUTO_TEST_CASE(invalid_documents_are_named_or_skipped) {
  TemporaryFolder folder;
  folder.write("f/good.py", source(1));
  folder.write("f/latin.py", "# caf\xE9\n" + source(2));
  const std::string bad = R"({"content": 5})";
  const auto jsonl = [&](const char* name, const std::string& second) {
    return options({folder.write(name, line(1) + second + "\n" + line(3))});
  };
  const std::vector<std::pair<CorpusOptions, std::vector<std::string>>> cases = {
      {options({folder / "f"}), {"latin.py", "not UTF-8", "offset 5", "--skip-invalid"}},
      {jsonl("a.jsonl", "{\"content\": \"x"), {"a.jsonl:2", "not JSON"}},
      {jsonl("b.jsonl", "{\"content\": 5}"), {"b.jsonl:2", "\"content\""}},
      {jsonl("c.jsonl", "[]"), {"c.jsonl:2", "\"content\""}},
      {jsonl("d.jsonl", "{\"content\": \"\xFF\"}"), {"d.jsonl:2", "not UTF-8", "offset 13"}},
      {jsonl("e.jsonl", R"({"content": "\ud800"})"), {"e.jsonl:2", "not JSON"}},
  };
  for (auto [given, words] : cases) {
    for (const auto& word : words) BOOST_CHECK_EXCEPTION(Visit{given}, Error, contains(word));
    given.skip_invalid = true;
    const Visit visit(given);
    BOOST_TEST(visit.counts.invalid == 1);
    BOOST_TEST(visit.counts.kept == visit.counts.seen - 1);
  }
}

BOOST_AUTO_TEST_CASE(a_sample_does_not_depend_on_the_order) {
  std::vector<std::string> contents;
  for (int i = 0; i < 200; ++i)
    contents.push_back(source(i) + std::string(static_cast<std::size_t>(i * 37 % 500), '-'));
  const auto take = [&](std::int64_t budget, bool backwards) {
    lnfree::DocumentSample sample(budget);
    for (std::size_t i = 0; i < contents.size(); ++i) {
      const auto& content = contents[backwards ? contents.size() - 1 - i : i];
      sample.add({"", content, lnfree::ContentHash::of(content), false, 0});
    }
    return sample.take();
  };
  for (const std::int64_t budget : {0, 500, 5000, 50000, 1000000}) {
    const auto sample = take(budget, false);
    BOOST_TEST(sample == take(budget, true), boost::test_tools::per_element());
    std::int64_t bytes = 0;
    for (const auto& content : sample) bytes += static_cast<std::int64_t>(content.size());
    if (budget == 0)
      BOOST_TEST(sample.size() == 1u);
    else
      BOOST_TEST(bytes <= budget);
    if (budget == 5000 || budget == 50000) BOOST_TEST(bytes > budget - 1000);
  }
  BOOST_TEST(take(1000000, false).size() == 200u);
}

BOOST_AUTO_TEST_SUITE_END()
