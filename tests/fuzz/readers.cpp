/// The readers of files, held against whatever bytes libFuzzer thinks of:
///
///   fuzz_readers READER [libFuzzer's options and folders]
///
/// A reader may refuse its input with an Error and do nothing else: no other exception, no memory that the
/// input's size does not explain, nothing that the sanitizers see.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <lnfree/checkpoint/architecture.hpp>
#include <lnfree/checkpoint/llm_c.hpp>
#include <lnfree/checkpoint/safetensors.hpp>
#include <lnfree/checkpoint/weights.hpp>
#include <lnfree/data/byte_level_tokenizer.hpp>
#include <lnfree/data/corpus.hpp>
#include <lnfree/data/windows.hpp>

#include "support/temporary_folder.hpp"

namespace {

using namespace lnfree;

/// What a reader must hold whatever it reads.
void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "not so: %s\n", what);
  std::abort();
}

const TemporaryFolder& folder() {
  static const TemporaryFolder temporary;
  return temporary;
}

/// A new file: a file system may bring one to the disk that was emptied and written again.
std::filesystem::path file(const char* name, std::string_view content) {
  const auto path = folder() / name;
  std::filesystem::remove(path);
  std::ofstream(path, std::ios::binary).write(content.data(), static_cast<std::streamsize>(content.size()));
  return path;
}

/// The first byte: whether the vocabulary of a bare shard is known, the second: the size of the description.
void shard(std::string_view input) {
  if (input.size() < 2) return;
  const std::int64_t vocab_size = input[0] & 1 ? 50'257 : 0;
  const std::size_t described = std::min<std::size_t>(static_cast<unsigned char>(input[1]), input.size() - 2);
  std::filesystem::remove(folder() / "s.json");
  if (described > 0) file("s.json", input.substr(2, described));
  const auto path = file("s.bin", input.substr(2 + described));
  auto set = ShardSet::open({&path, 1}, vocab_size);
  require(set.fingerprint().size() == 16, "a fingerprint of 16 digits");
  const Windows windows(std::move(set), 4, 50'257);
  std::vector<std::int32_t> window(4);
  for (std::int64_t i = 0; i < windows.count(); ++i) {
    windows.window(i, window.data());
    for (const auto token : window) require(token >= 0 && token < 50'257, "tokens of the vocabulary");
  }
}

void check(const ByteLevelTokenizer& tokenizer, std::string_view text) {
  const auto ids = tokenizer.encode(text);
  const auto back = tokenizer.decode(ids);
  require(!tokenizer.gives_text_back() || back == text, "the text that was encoded");
}

void tokenizer_json(std::string_view input) {
  const ByteLevelTokenizer tokenizer(input, "tokenizer.json");
  check(tokenizer, "def re(turn):\n    return 12 <|endoftext|> \xE2\x82\xAC \xFF");
  check(tokenizer, input);
}

/// An expression in the first line, text behind it.
void pattern(std::string_view input) {
  const auto end = std::min(input.find('\n'), input.size());
  const SplitPattern split(input.substr(0, end), "here");
  std::string_view text = input.substr(std::min(end + 1, input.size()));
  text = text.substr(0, find_invalid_utf8(text).value_or(text.size()));
  SplitPattern::Matcher matcher;
  for (std::size_t at = 0; at < text.size();) {
    const auto match = split.find(text, at, matcher);
    if (!match) return;
    require(at <= match->first && match->first < match->second && match->second <= text.size(),
            "a match in the text");
    require(!find_invalid_utf8(text.substr(match->first, match->second - match->first)), "whole characters");
    at = match->second;
  }
}

/// JSON lines as they are or packed, which their bytes tell.
void json_lines(std::string_view input) {
  CorpusOptions options;
  options.inputs = {file("c.jsonl", input)};
  options.min_bytes = 1;
  options.held_out = 0.5;
  for (const bool skips : {false, true}) {
    options.skip_invalid = skips;
    try {
      const auto counts = Corpus(options).visit([](const Document& document) {
        require(!find_invalid_utf8(document.content), "UTF-8");
        require(!document.content.empty(), "a document");
      });
      require(counts.kept == counts.train + counts.held_out, "each document on a side");
    } catch (const Error&) {
    }
  }
}

void safetensors(std::string_view input) {
  const auto tensors = SafetensorsFile::open(file("t.safetensors", input));
  for (const auto& tensor : tensors.tensors()) {
    try {
      require(static_cast<std::size_t>(tensors.read(tensor).size()) <= input.size(),
              "numbers that the file holds");
    } catch (const Error&) {
    }
  }
}

void config_json(std::string_view input) {
  file("config.json", input);
  const Architecture architecture = read_architecture(folder().path());
  require(sizes_are_positive(architecture.sizes) && width_is_a_multiple_of_heads(architecture.sizes) &&
              positions_cover_the_context(architecture.sizes) && rotary_dims_fit_the_head(architecture.sizes),
          "sizes that make a model");
}

/// An index of files of which one is there.
void index(std::string_view input) {
  const std::vector<float> numbers(4);
  save_safetensors(folder() / "a.safetensors", {{"a", {2, 2}, [&] { return numbers; }}});
  for (const StoredTensor& tensor : read_weights(file("model.safetensors.index.json", input), 1))
    require(tensor.size() == 4, "the tensor that is there");
}

void llm_c_model(std::string_view input) {
  const auto model = llm_c::read_model(file("model.bin", input));
  for (const StoredTensor& tensor : model.tensors) {
    require(static_cast<std::size_t>(tensor.size()) <= input.size(), "numbers that the file holds");
    require(tensor.data().size() == static_cast<std::size_t>(tensor.size()), "all numbers");
  }
}

const std::map<std::string, void (*)(std::string_view)> readers = {{"shard", shard},
                                                                   {"tokenizer_json", tokenizer_json},
                                                                   {"pattern", pattern},
                                                                   {"json_lines", json_lines},
                                                                   {"safetensors", safetensors},
                                                                   {"config_json", config_json},
                                                                   {"index", index},
                                                                   {"llm_c", llm_c_model}};

void (*reader)(std::string_view) = nullptr;

}  // namespace

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  const auto found = *argc < 2 ? readers.end() : readers.find((*argv)[1]);
  if (found == readers.end()) {
    std::fputs("fuzz_readers READER ...: the readers are", stderr);
    for (const auto& [name, function] : readers) std::fprintf(stderr, " %s", name.c_str());
    std::fputs("\n", stderr);
    std::exit(2);
  }
  reader = found->second;
  std::copy(*argv + 2, *argv + *argc, *argv + 1);
  --*argc;
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    reader({reinterpret_cast<const char*>(data), size});
  } catch (const Error& error) {
    const std::string_view sentence = error.what();
    require(sentence.size() < 4000 && !find_invalid_utf8(sentence), "a sentence");
    require(sentence.find('\n') == std::string_view::npos, "a sentence of one line");
  }
  return 0;
}
