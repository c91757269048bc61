#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>

#include <lnfree/core/parse_number.hpp>

namespace convert {

using namespace lnfree;

/// What the program was asked for.
struct Options {
  std::filesystem::path from, to, tokenizer;
  std::string format = "lnfree", dtype = "float32", max_shard_size = "5GB";
  int context = 0;
  bool fold = false;

  std::string stored_type() const { return dtype == "float32" ? "F32" : "BF16"; }
};

/// The number of bytes that a text such as "5GB" or "300MB" means, in powers of 1000 as transformers reads
/// it; 0 for another text.
inline std::uint64_t bytes_of(std::string_view text) {
  std::uint64_t unit = 1;
  for (const auto& [suffix, bytes] :
       {std::pair<std::string_view, std::uint64_t>{"KB", 1'000}, {"MB", 1'000'000}, {"GB", 1'000'000'000}}) {
    if (!text.ends_with(suffix)) continue;
    unit = bytes;
    text.remove_suffix(suffix.size());
    break;
  }
  const std::uint64_t number = parse_number<std::uint64_t>(text).value_or(0);
  return number <= (std::uint64_t{1} << 62) / unit ? number * unit : 0;
}

}  // namespace convert
