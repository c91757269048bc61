#include "lnfree/data/tokenizer.hpp"

#include <boost/test/unit_test.hpp>
#include <random>
#include <string>
#include <vector>

#include "support/temporary_folder.hpp"

using lnfree::Error;
using lnfree::Tokenizer;
using namespace std::string_literals;

namespace {

// Python-like text with enough different words for some hundred pieces.
std::vector<std::string> documents() {
  std::vector<std::string> documents;
  const std::vector<std::string> words = {"value",  "index", "frame", "result",
                                          "column", "axis",  "score", "label"};
  for (const auto& a : words) {
    std::string text = "import " + a + "\n\n\nclass " + a + "_holder:\n";
    for (const auto& b : words)
      text += "    def get_" + b + "(self, " + a + "=None):\n        if " + a +
              " is None:\n            return self." + b + "\n        return " + b + " + " + a + "\n\n";
    documents.push_back(text);
  }
  return documents;
}

const Tokenizer& trained() {
  static const Tokenizer tokenizer = Tokenizer::train(documents(), 400);
  return tokenizer;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(tokenizer)

BOOST_AUTO_TEST_CASE(gives_every_text_back) {
  const std::vector<std::string> texts = {
      "",
      "def f(x):\n    return x\n",
      "a\xE2\x96\x81"
      "b \xE2\x96\x81\xE2\x96\x81 \xE2\x96\x81",  // U+2581, SentencePiece's space mark
      "\xE2\x96\x85 \xE2\x81\x87",                // U+2585 and U+2047, its marks for the unknown
      "nul\0in\0\0between\0"s,
      "\ttab\t\tand \t mixed\t",
      "line\r\nline\r\n\r\n\rend\r",
      "trailing   \n  \n    ",
      std::string(1000, ' ') + "x" + std::string(1000, '\n'),
      "<s> </s> <unk> <0x41> <0x00><pad>",
      "\xF0\x9F\x98\x80 \xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x92\xBB",  // emoji, one joined
      "e\xCC\x81 \xC3\xA9 \xEF\xAC\x81 \xEF\xBC\xA1",  // combining, composed, ligature, full width
      "\xEF\xBB\xBFimport os",                         // byte order mark
      "\xEF\xBF\xBD \xEF\xBF\xBE \xF4\x8F\xBF\xBF",    // U+FFFD, U+FFFE, U+10FFFF
      "\xE6\x97\xA5\xE6\x9C\xAC\xE8\xAA\x9E \xD7\xA9\xD7\x9C\xD7\x95\xD7\x9D",
      "not UTF-8: \xFF\xFE \xC0\x80 \xED\xA0\x80 \xE2\x96",
  };
  for (const auto& text : texts) {
    const auto ids = trained().encode(text);
    BOOST_TEST(trained().decode(ids) == text);
    for (const auto id : ids) BOOST_TEST((id > 0 && id < trained().vocab_size()));  // 0 would be the unknown
  }
  BOOST_TEST(trained().encode("").empty());
}

BOOST_AUTO_TEST_CASE(gives_random_text_back) {
  const std::vector<std::string> parts = {" ",    "  ",   "\n",     "\t", "\r", "\0"s, "\xE2\x96\x81",
                                          "self", "def ", "return", "(",  "0",  "<",   "\xC3\xA9",
                                          "\xFF", "_"};
  std::mt19937 random(1);
  for (int i = 0; i < 300; ++i) {
    std::string text;
    for (int j = 0; j < 40; ++j) text += parts[random() % parts.size()];
    BOOST_TEST(trained().decode(trained().encode(text)) == text);
  }
}

// SentencePiece itself ends the program on words of more than 32768 characters, and skips documents with
// U+2585.
BOOST_AUTO_TEST_CASE(learns_from_every_text) {
  const auto repeated = [](std::string_view text, int times) {
    std::string all;
    for (int i = 0; i < times; ++i) all += text;
    return all;
  };
  std::mt19937 random(1);
  std::string letters, han;
  for (int i = 0; i < 70000; ++i) {
    letters += "ABCDEFGHabcdefgh0123+/=_"[random() % 24];
    han += "\xE4\xB8" + std::string(1, static_cast<char>(0x80 + random() % 24));
  }
  std::string alone;
  for (const auto& document : documents()) alone += document;
  const std::vector<std::string> texts = {
      letters,
      han,
      repeated("a", 70000),
      repeated(" ", 40000),
      repeated(" ", 20000) + letters.substr(0, 20000) + repeated(" ", 40000),
      "table = '" + letters + "'\n",
      repeated("\r\n", 40000),
      repeated("\t", 40000),
      std::string(40000, '\0'),
      repeated("\xEF\xBB\xBF", 40000),
      repeated("\xE2\x96\x81", 40000),
      repeated("\xE2\x96\x85", 40000),
      "\xE2\x96\x85" + letters + "\xE2\x96\x85",
      repeated("e\xCC\x81", 40000),
      repeated("\xF0\x9F\x98\x80", 40000),
      repeated("\xFF", 40000),
  };
  for (const auto& text : texts) {
    const auto tokenizer = Tokenizer::train({alone, text}, 400);
    BOOST_TEST((tokenizer.decode(tokenizer.encode(text)) == text));
    BOOST_TEST(tokenizer.encode("        return").size() <= 2u);  // the other document counts as before
  }
  // A long run is learned from like a short one.
  std::string run;
  for (int i = 0; i < 5000; ++i) run += "payload" + std::to_string(i % 10) + "_";
  BOOST_TEST(run.size() > 40000u);
  BOOST_TEST(Tokenizer::train({alone, run}, 400).encode("payload").size() <= 2u);
  // So are documents with U+2585.
  BOOST_TEST(Tokenizer::train({alone + "\xE2\x96\x85\n" + alone}, 400).encode("        return").size() <= 2u);
  BOOST_CHECK_EXCEPTION(Tokenizer::train({"\xE2\x96\x85"}, 400), Error, contains("nothing that can become"));
}

BOOST_AUTO_TEST_CASE(indentation_and_words_become_pieces) {
  BOOST_TEST(trained().vocab_size() == 400);
  BOOST_TEST(trained().encode("        ").size() == 1u);
  BOOST_TEST(trained().encode(" None").size() == 1u);
  BOOST_TEST(trained().encode("\t").size() == 1u);
  std::size_t bytes = 0, tokens = 0;
  for (const auto& document : documents()) {
    bytes += document.size();
    tokens += trained().encode(document).size();
  }
  BOOST_TEST(bytes > 3 * tokens);
}

BOOST_AUTO_TEST_CASE(other_programs_read_the_same_tokens) {
  TemporaryFolder folder;
  trained().save(folder / "t.model");
  sentencepiece::SentencePieceProcessor processor;
  BOOST_REQUIRE(processor.Load((folder / "t.model").string()).ok());
  const auto text = documents()[2];
  std::vector<int> ids;
  BOOST_REQUIRE(processor.Encode(text, &ids).ok());
  BOOST_TEST(trained().encode(text) == ids, boost::test_tools::per_element());
  std::string back;
  BOOST_REQUIRE(processor.Decode(ids, &back).ok());
  BOOST_TEST(back == text);
}

BOOST_AUTO_TEST_CASE(training_repeats_and_files_keep_it) {
  TemporaryFolder folder;
  trained().save(folder / "a.model");
  Tokenizer::train(documents(), 400).save(folder / "b.model");
  BOOST_TEST((read_file(folder / "a.model") == read_file(folder / "b.model")));
  Tokenizer::load(folder / "a.model").save(folder / "c.model");
  BOOST_TEST((read_file(folder / "a.model") == read_file(folder / "c.model")));
  BOOST_TEST(Tokenizer::load(folder / "c.model").encode("return self") == trained().encode("return self"),
             boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(bad_input_says_what_is_wrong) {
  TemporaryFolder folder;
  BOOST_CHECK_EXCEPTION(Tokenizer::train(documents(), 50000), Error,
                        contains("50000", "at most", "more text"));
  BOOST_CHECK_EXCEPTION(Tokenizer::train(documents(), 260), Error, contains("260", "larger vocabulary"));
  BOOST_CHECK_EXCEPTION(Tokenizer::train({}, 400), Error, contains("no text"));
  BOOST_CHECK_EXCEPTION(Tokenizer::load(folder / "none.model"), Error,
                        contains("cannot read", "none.model", "No such file"));
  BOOST_CHECK_EXCEPTION(Tokenizer::load(folder.path()), Error, contains("is not a file", "tokenizer.model"));
  BOOST_CHECK_EXCEPTION(Tokenizer::load(folder.write("e.model", "")), Error,
                        contains("e.model", "not a SentencePiece"));
  BOOST_CHECK_EXCEPTION(Tokenizer::load(folder.write("t.model", "import os\n")), Error,
                        contains("not a SentencePiece"));
  const std::vector<std::int32_t> beyond = {400};
  BOOST_CHECK_EXCEPTION(trained().decode(beyond), Error, contains("400"));
}

BOOST_AUTO_TEST_CASE(the_end_of_a_text_has_several_names) {
  BOOST_TEST(!trained().end_of_text());
  for (const std::string name : {"<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>"}) {
    const auto packed = Tokenizer::train(documents(), 400, name);
    BOOST_REQUIRE(packed.end_of_text());
    BOOST_TEST(*packed.end_of_text() == *packed.find(name));
  }
}

BOOST_AUTO_TEST_SUITE_END()
