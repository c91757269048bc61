/// The models of one shape, LNFREE_GENERATE_SHAPE, in the program generate.
#include <filesystem>
#include <memory>
#include <span>
#include <vector>

#include <lnfree/train/checkpoint.hpp>

#include "configurations.hpp"
#include "generate.hpp"

using namespace lnfree;

namespace {

template <class Model>
NextLogits load(const std::filesystem::path& checkpoint) {
  const auto model = std::make_shared<Model>(1, Purpose::evaluation);
  load_weights(*model, checkpoint / "model.safetensors");
  return [model](std::span<const std::int32_t> tokens) { return model->next_logits(tokens); };
}

}  // namespace

std::vector<DescribedModel> generators::LNFREE_GENERATE_SHAPE(const std::filesystem::path& checkpoint) {
  constexpr DecoderConfig shape = configurations::shapes::LNFREE_GENERATE_SHAPE.config;
  std::vector<DescribedModel> found;
  const auto add_if_described = [&]<class Configuration>() {
    using Model = typename Configuration::template Model<shape, Cpu>;
    if (architecture_difference<Model>(checkpoint).empty())
      found.push_back({shape.vocab_size, [checkpoint] { return load<Model>(checkpoint); }});
  };
#define CONFIGURATION(name, ...) add_if_described.template operator()<configurations::name<shape>>();
#include "configurations.def"
  return found;
}
