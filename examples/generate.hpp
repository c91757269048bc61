#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <vector>

/// Logits of the token after these, one for each token that the model knows.
using NextLogits = std::function<std::vector<double>(std::span<const std::int32_t>)>;

/// A model that a checkpoint's config.json describes.
struct DescribedModel {
  int vocab_size;
  std::function<NextLogits()> load;  ///< Reads the checkpoint's weights; throws Error.
};

/// For each shape in configurations.def a function of its name: the models of that shape, in any
/// configuration, that the config.json in a folder describes. Throws Error for a damaged file.
namespace generators {
#define SHAPE(name, ...) std::vector<DescribedModel> name(const std::filesystem::path& checkpoint);
#include "configurations.def"
}  // namespace generators
