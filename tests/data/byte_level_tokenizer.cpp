#include <boost/test/unit_test.hpp>
#include <functional>
#include <string>
#include <vector>

#include "lnfree/data/tokenizer.hpp"

#include "support/temporary_folder.hpp"

using lnfree::Error;
using lnfree::Json;
using lnfree::Tokenizer;

namespace {

// The characters that represent the bytes 0 to 255, by the rule of GPT-2's encoder.
std::vector<std::string> byte_characters() {
  std::vector<std::string> characters;
  int next = 256;
  for (int byte = 0; byte < 256; ++byte) {
    const bool seen = (byte > 32 && byte < 127) || (byte > 160 && byte < 173) || byte > 173;
    const int code = seen ? byte : next++;
    characters.push_back(
        code < 128 ? std::string(1, static_cast<char>(code))
                   : std::string{static_cast<char>(0xC0 + code / 64), static_cast<char>(0x80 + code % 64)});
  }
  return characters;
}

// Byte b has the id b; 256 to 261 are merged, 262 is the end of a text.
Json small() {
  Json vocab, merges = Json::array();
  for (int byte = 0; byte < 256; ++byte) vocab[byte_characters()[static_cast<std::size_t>(byte)]] = byte;
  const std::vector<std::pair<std::string, std::string>> pairs = {
      {"a", "b"}, {"b", "c"}, {"ab", "c"}, {"\u0120", "ab"}, {"\u0120", "\u0120"}, {"c", "\u010A"}};
  for (const auto& [left, right] : pairs) {
    vocab[left + right] = 256 + merges.size();
    merges.push_back({left, right});
  }
  return {{"added_tokens",
           {{{"id", 262}, {"content", "<|endoftext|>"}, {"special", true}, {"normalized", false}}}},
          {"normalizer", nullptr},
          {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}}},
          {"decoder", {{"type", "ByteLevel"}}},
          {"model", {{"type", "BPE"}, {"dropout", nullptr}, {"vocab", vocab}, {"merges", merges}}}};
}

Json changed(const std::function<void(Json&)>& change) {
  Json json = small();
  change(json);
  return json;
}

Json split_by(const Json& pattern, const char* behavior = "Isolated") {
  return changed([&](Json& json) {
    json["pre_tokenizer"] = {
        {"type", "Sequence"},
        {"pretokenizers",
         {{{"type", "Split"}, {"pattern", pattern}, {"behavior", behavior}, {"invert", false}},
          {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}}}};
  });
}

struct Loaded {
  TemporaryFolder folder;
  Tokenizer tokenizer;
  explicit Loaded(const Json& json)
      : tokenizer(Tokenizer::load(folder.write("tokenizer.json", json.dump()))) {}
};

using Ids = std::vector<std::int32_t>;

Ids encode(const Json& json, const std::string& text) {
  return Loaded(json).tokenizer.encode(text);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(byte_level_tokenizer)

BOOST_AUTO_TEST_CASE(merges_in_their_order) {
  BOOST_TEST(encode(small(), "abc") == (Ids{258}), boost::test_tools::per_element());
  BOOST_TEST(encode(small(), "xbc abab") == (Ids{'x', 257, 259, 256}), boost::test_tools::per_element());
  BOOST_TEST(encode(small(), "   ab") == (Ids{260, 259}), boost::test_tools::per_element());
  BOOST_TEST(encode(small(), "c\n") == (Ids{'c', '\n'}), boost::test_tools::per_element());  // two words
  // The order of the list decides, not the position in the text; of two merges of a pair the last one is
  // used.
  auto reversed = changed([](Json& json) {
    auto& merges = json["model"]["merges"];
    std::swap(merges[0], merges[1]);
  });
  BOOST_TEST(encode(reversed, "abc") == (Ids{'a', 257}), boost::test_tools::per_element());
  reversed["model"]["merges"].push_back({"b", "c"});
  BOOST_TEST(encode(reversed, "abc") == (Ids{258}), boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(older_files_have_merges_of_one_text) {
  const auto older = changed([](Json& json) {
    for (auto& merge : json["model"]["merges"])
      merge = merge[0].get<std::string>() + " " + merge[1].get<std::string>();
  });
  const std::string text = "abc  ab bcab\n c";
  BOOST_TEST(encode(older, text) == encode(small(), text), boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(whole_words_where_merges_are_ignored) {
  const auto whole = changed([](Json& json) {
    json["model"]["ignore_merges"] = true;
    json["model"]["merges"] = Json::array();
  });
  BOOST_TEST(encode(whole, "abc abcd") == (Ids{258, ' ', 'a', 'b', 'c', 'd'}),
             boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(gives_every_text_back) {
  const Loaded loaded(small());
  BOOST_TEST(loaded.tokenizer.vocab_size() == 263);
  BOOST_TEST(loaded.tokenizer.is_lossless());
  BOOST_TEST((loaded.tokenizer.find("<|endoftext|>") == 262));
  BOOST_TEST(!loaded.tokenizer.find("<s>").has_value());
  BOOST_TEST(loaded.tokenizer.file_name() == std::string("tokenizer.json"));
  std::string all, letters;
  for (int byte = 0; byte < 256; ++byte) all += static_cast<char>(byte);
  for (int i = 0; i < 100000; ++i) letters += "abc"[i % 1000 * (i % 1000) % 7 % 3];
  for (const std::string& text :
       {std::string(), all, all + "<|endoftext|>abc<|endoftext|>", letters, std::string(100000, 'a'),
        std::string(70000, ' ') + "x", std::string("\xE2\x82\xAC \xE2\x82 \xF0\x9F\x98\x80 \xED\xA0\x80")}) {
    const auto ids = loaded.tokenizer.encode(text);
    BOOST_TEST((loaded.tokenizer.decode(ids) == text));
  }
  const auto spaced = changed([](Json& json) { json["pre_tokenizer"]["add_prefix_space"] = true; });
  BOOST_TEST(!Loaded(spaced).tokenizer.is_lossless());
  BOOST_TEST(encode(spaced, "ab") == (Ids{259}), boost::test_tools::per_element());
  const Ids beyond = {263};
  BOOST_CHECK_EXCEPTION(loaded.tokenizer.decode(beyond), Error, contains("263"));
}

#ifdef LNFREE_WITH_UTF8PROC
BOOST_AUTO_TEST_CASE(characters_are_composed_where_the_file_asks_for_it) {
  auto composing = small();
  composing["normalizer"] = {{"type", "NFC"}};
  composing["added_tokens"].push_back({{"id", 263}, {"content", "e\u0301"}, {"normalized", true}});
  composing["added_tokens"].push_back({{"id", 264}, {"content", "o\u0301"}, {"normalized", false}});
  const Loaded loaded(composing);
  BOOST_TEST(!loaded.tokenizer.is_lossless());
  const auto ids = loaded.tokenizer.encode("a\u0301 e\u0301\u00E9 o\u0301\u00F3");
  BOOST_TEST(ids == (Ids{0xC3, 0xA1, ' ', 263, 263, ' ', 264, 0xC3, 0xB3}), boost::test_tools::per_element());
  BOOST_TEST(loaded.tokenizer.encode("abc") == (Ids{258}), boost::test_tools::per_element());
  BOOST_TEST(loaded.tokenizer.decode(loaded.tokenizer.encode("a\u0301\xFF")) == "\u00E1\xFF");
  composing["normalizer"] = {{"type", "Sequence"}, {"normalizers", {{{"type", "NFC"}}}}};
  BOOST_TEST((encode(composing, "a\u0301") == Ids{0xC3, 0xA1}));
}
#endif

BOOST_AUTO_TEST_CASE(a_sequence_of_no_normalizers_changes_nothing) {
  const auto empty = changed(
      [](Json& json) { json["normalizer"] = {{"type", "Sequence"}, {"normalizers", Json::array()}}; });
  BOOST_TEST((encode(empty, "a\u0301") == Ids{'a', 0xCC, 0x81}));
  BOOST_TEST(Loaded(empty).tokenizer.is_lossless());
}

// "\u0120ab" is the name of " ab". Both texts have its id, and it stands for the second, as for tokenizers.
BOOST_AUTO_TEST_CASE(an_added_token_of_the_vocabulary_keeps_its_text) {
  const Loaded loaded(changed([](Json& json) {
    json["added_tokens"].push_back({{"id", 259}, {"content", "\u0120ab"}, {"normalized", false}});
  }));
  BOOST_TEST((loaded.tokenizer.encode(" ab\u0120ab") == Ids{259, 259}));
  BOOST_TEST(loaded.tokenizer.decode(loaded.tokenizer.encode("x ab")) == "x ab");
  BOOST_TEST(!loaded.tokenizer.is_lossless());
}

BOOST_AUTO_TEST_CASE(copies_and_files_are_the_same) {
  const Loaded loaded(small());
  const Tokenizer copy = loaded.tokenizer;
  copy.save(loaded.folder / "copy.json");
  BOOST_TEST((read_file(loaded.folder / "copy.json") == small().dump()));
  BOOST_TEST(Tokenizer::load(loaded.folder / "copy.json").fingerprint() == copy.fingerprint());
}

BOOST_AUTO_TEST_CASE(deep_nesting_is_refused) {
  const auto check = [](const char* key, const char* list) {
    Json nested = {{"type", "ByteLevel"}};
    for (int level = 0; level < 40; ++level) nested = {{"type", "Sequence"}, {list, {nested}}};
    BOOST_CHECK_EXCEPTION(Loaded{changed([&](Json& json) { json[key] = nested; })}, Error,
                          contains("tokenizer.json", "more than 64 deep"));
  };
  check("normalizer", "normalizers");
  check("pre_tokenizer", "pretokenizers");
}

BOOST_AUTO_TEST_CASE(what_would_change_tokens_is_refused) {
  const auto refuses = [](const Json& json, auto... words) {
    BOOST_CHECK_EXCEPTION(Loaded{json}, Error, contains("tokenizer.json", words...));
  };
  const auto with = [](const char* pointer, const Json& value) {
    return changed([&](Json& json) { json[Json::json_pointer(pointer)] = value; });
  };
  refuses(with("/normalizer", {{"type", "NFKC"}}), "normalizer NFKC");
  refuses(with("/normalizer", 5), "normalizer of no type");
  refuses(with("/model/type", "Unigram"), "Unigram", "only BPE");
  refuses(with("/model/type", "WordPiece"), "WordPiece");
  refuses(with("/model", {{"type", "Unigram"}, {"vocab", {{"a", -1.0}}}}), "Unigram", "only BPE");
  refuses(with("/normalizer", {{"type", "Sequence"}, {"normalizers", {{{"type", "Strip"}}}}}),
          "normalizer Strip");
  refuses(with("/model/dropout", 0.1), "dropout");
  refuses(with("/model/end_of_word_suffix", "</w>"), "end_of_word_suffix");
  refuses(with("/model/continuing_subword_prefix", "##"), "continuing_subword_prefix");
  refuses(with("/model/ignore_merges", "yes"), "ignore_merges");
  refuses(with("/model/merges", "a b"), "merges");
  for (const Json& merge :
       {Json("ab"), Json("a b c"), Json{"a"}, Json{1, 2}, Json{"a", "b", "c"}, Json(nullptr)})
    refuses(with("/model/merges/0", merge), "merge");
  refuses(with("/model/merges/0", {"a", "z"}), "no token 'az'");
  refuses(with("/model/vocab/a", 2000), "large holes");
  refuses(with("/model/vocab/a", 1 << 30), "no id");
  refuses(with("/model/vocab/a", -1), "no id");
  refuses(with("/model/vocab/a", {1}), "no id");
  refuses(with("/model/vocab/a", "1"), "no id");
  refuses(with("/model/vocab/a", 98), "id 98");
  refuses(changed([](Json& json) { json["model"]["vocab"].erase("a"); }), "byte 97");
  refuses(with("/added_tokens/0/id", 300), "<|endoftext|>", "300", "262");
  refuses(with("/added_tokens/0/single_word", true), "single_word");
  refuses(with("/added_tokens/0", "x"), "added token");
  refuses(with("/added_tokens", 1), "added_tokens");
  refuses(with("/decoder", {{"type", "Metaspace"}}), "decoder Metaspace");
  refuses(with("/pre_tokenizer", nullptr), "pre_tokenizer");
  refuses(with("/pre_tokenizer", {{"type", "Metaspace"}}), "Metaspace");
  refuses(with("/pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", Json::array()}}), "ByteLevel");
  refuses(with("/pre_tokenizer", {{"type", "Sequence"},
                                  {"pretokenizers", {small()["pre_tokenizer"], small()["pre_tokenizer"]}}}),
          "behind ByteLevel");
  refuses(split_by({{"Regex", "a"}}, "MergedWithNext"), "behavior");
  refuses(split_by({{"Rege", "a"}}), "pattern");
  refuses(with("/model", 1), "no model");
  refuses(Json::array(), "no JSON object");
  TemporaryFolder folder;
  BOOST_CHECK_EXCEPTION(Tokenizer::load(folder.write("a.json", "")), Error,
                        contains("a.json", "tokenizer.json"));
  BOOST_CHECK_EXCEPTION(Tokenizer::load(folder.write("a.model", " {\"a\": ")), Error,
                        contains("a.model", "tokenizer.json"));
}

BOOST_AUTO_TEST_CASE(patterns_mean_what_oniguruma_means) {
  const auto splits = [](const char* regex, const std::string& text, const Ids& expected) {
    BOOST_TEST(encode(split_by({{"Regex", regex}}), text) == expected, boost::test_tools::per_element());
  };
  splits("b", "abc", {'a', 'b', 'c'});
  splits("\\x62|\\u0063|\\x{63}", "abc", {'a', 'b', 'c'});
  splits("[\\x{62}]", "abc", {'a', 'b', 'c'});
  splits("(?i:B)", "abc", {'a', 'b', 'c'});
  splits("(?i)B", "abc", {'a', 'b', 'c'});
  splits("(?:(?i:B)|\u00DF)[\\p{Ll}]", "bc", {257});  // the case of the last two counts
  splits("(?i)[^\\p{L}]", "ab1", {256, '1'});
  splits("ss|(?i:[s]s|s|s+s)", "aSS", {'a', 'S', 'S'});
  splits("(?i:b\\p{Lu})", "abe", {256, 'e'});
  // U+0345 is a mark, and the small form of a letter.
  splits("(?i)b[^\\p{L}]", "ab\u0345", {256, 0xCD, 0x85});
  // The pattern of GPT-4, and the first part of GPT-4o's.
  splits(
      "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
      "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
      "ab'LLab", {256, '\'', 'L', 'L', 256});
  splits(
      "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+"
      "(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
      "ab'Sab", {256, '\'', 'S', 256});
  splits("(?<=a)b", "ab ab", {'a', 'b', ' ', 'a', 'b'});
  splits("a$", "ab a\n a", {256, ' ', 'a', '\n', ' ', 'a'});  // at the end of any line
  // U+180E is not a space, U+0085 is; _ and a combining mark are parts of words.
  splits("\\s", " \u180E", {' ', 0xE1, 0xA0, 0x8E});
  splits("\\S+",
         "ab\u0085"
         "ab",
         {256, 0xC2, 0x85, 256});
  splits("[\\w]+", "ab_ab", {256, '_', 256});
  splits("\\W", "a\u0301", {'a', 0xCC, 0x81});
  // So are letters in circles, and outside of a class the small numbers of Latin-1.
  splits("b\\w", "ab\u24B6", {'a', 'b', 0xE2, 0x92, 0xB6});
  splits("b\\w", "ab\u00B2", {'a', 'b', 0xC2, 0xB2});
  splits("b\\W|b[\\w]", "ab\u00B2", {256, 0xC2, 0xB2});
  splits("\\p{^L}", "a1", {'a', '1'});
  BOOST_TEST(encode(split_by({{"String", "b|.c"}}), "ab|.cab") == (Ids{'a', 'b', '|', '.', 'c', 256}),
             boost::test_tools::per_element());
  for (const char* regex : {"",
                            "a*",
                            "(",
                            "[a",
                            "a\\",
                            "\\h",
                            "\\b",
                            "\\R",
                            "\\1",
                            "(a)\\k<1>",
                            "[[:alpha:]]",
                            "[a[b]]",
                            "[a&&b]",
                            "[]a]",
                            "(?m:a)",
                            "a(?i)b",
                            "(?#a)",
                            "(*ACCEPT)a",
                            "a{,2}",
                            "a{1}+",
                            "a{x",
                            "[\\W]",
                            "\\p{Letter}",
                            "\\p{}",
                            "\\p{x y}",
                            "\\pL",
                            "\\x{110000}",
                            "\\xFF",
                            "\\x",
                            "\\u12",
                            "(?<=a+)b",
                            "(?i)\u00DF",
                            "(?i:a|[\\xDF])",
                            "(?i:\\u00df)",
                            "(?i)[\\p{Lu}]",
                            "(?i:ss)",
                            "(?i:s(?:s))",
                            "(?i:s{1}(?:(?:t)))",
                            "(?i:h\u0331)",
                            "(?i)aSt+",
                            "(?i)\\x{130}",
                            "(?i)[\\p{L}]",
                            "(?i)[\\P{N}]",
                            "(?i)[\\S]",
                            "(?i)[\\D]",
                            "(?i)[\\w\\d]",
                            "(?i)[^\\p{Ll}]",
                            "(?i)[^\\p{Greek}]",
                            "(?i:[\u00C0-\u00FF])",
                            "(?i:[^\uFB05])",
                            "a{2}?",
                            "(?i:a|f\\x49)",
                            "(?i)(a)[\uFB01]"})
    BOOST_CHECK_EXCEPTION(encode(split_by({{"Regex", regex}}), "a"), Error,
                          contains("tokenizer.json", "the regular expression"));
}

BOOST_AUTO_TEST_SUITE_END()
