/// A tokenizer as a filter for tests/data/compare_tokenizers.py: encode_texts TOKENIZER. Reads texts, each as
/// a uint32 size and its bytes, and answers each with a uint32 count and that many int32 ids, then with the
/// size and bytes of the text that they decode to.
#include <cstdint>
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "lnfree/data/tokenizer.hpp"

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  try {
    const auto tokenizer = lnfree::Tokenizer::load(argv[1]);
    std::uint32_t size = 0;
    const auto write = [](const auto& values) {
      const auto count = static_cast<std::uint32_t>(values.size());
      std::fwrite(&count, sizeof count, 1, stdout);
      std::fwrite(values.data(), sizeof values[0], values.size(), stdout);
    };
    while (std::fread(&size, sizeof size, 1, stdin) == 1) {
      std::string text(size, '\0');
      if (std::fread(text.data(), 1, size, stdin) != size) return 2;
      const std::vector<std::int32_t> ids = tokenizer.encode(text);
      write(ids);
      write(tokenizer.decode(ids));
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
