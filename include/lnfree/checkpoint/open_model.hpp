#pragma once

#include <algorithm>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>

#include <lnfree/checkpoint/architecture.hpp>
#include <lnfree/checkpoint/named_parts.hpp>
#include <lnfree/checkpoint/weights.hpp>
#include <lnfree/core/error.hpp>
#include <lnfree/nn/dynamic_decoder.hpp>

namespace lnfree {

/// How to open a model.
struct OpenOptions {
  Purpose purpose = Purpose::evaluation;  ///< What it is opened for.
  int max_batch = 1;                      ///< Maximum number of sequences in a pass.
  int min_batch = 0;  ///< If memory is short, max_batch may be reduced to this; 0: it may not.
  int context = 0;    ///< Tokens that a position can attend to; 0: the model's own context.
};

/// The sizes and parts of the model in a folder, for the requested context.
template <class Device>
struct ModelInFolder {
  /// From config.json, except for the context.
  DecoderConfig sizes;
  /// Made from the policies that config.json names.
  DecoderParts<Device> parts;

  /// Reads config.json. Throws Error if it is damaged, or names a policy that `Policies` lacks.
  template <class Policies>
  static ModelInFolder read(const std::filesystem::path& folder, const OpenOptions& options) {
    Architecture architecture = read_architecture(folder);
    DecoderConfig& sizes = architecture.sizes;
    const std::string file = (folder / "config.json").string();
    if (options.context > 0) {
      if (options.context > sizes.position_rows() && sizes.rotary_dims == 0) {
        throw Error(file + " has " + std::to_string(sizes.position_rows()) +
                    " positions, too few for a context of " + std::to_string(options.context));
      }
      sizes.context = options.context;
      sizes.positions = 0;
    }
    if ((architecture.norm == LayerNorm::name || architecture.final_norm == LayerNorm::name) &&
        architecture.layer_norm_epsilon != LayerNorm::epsilon) {
      throw Error(file + ": its layer_norm_epsilon is " + Json(architecture.layer_norm_epsilon).dump() +
                  ", this program's is " + Json(LayerNorm::epsilon).dump());
    }
    try {
      return {sizes, parts_named<Device, Policies>(architecture.norm, architecture.final_norm,
                                                   architecture.activation, architecture.layout)};
    } catch (const Error& error) {
      throw Error(file + ": " + error.what());
    }
  }
};

/// The memory that open_model() needs with the same arguments, computed from config.json; allocates nothing.
template <class Device, class Observer = NoObserver, class Policies = KnownPolicies>
MemoryPlan plan_model(const std::filesystem::path& folder, const OpenOptions& options = {},
                      Device device = {}) {
  const auto found = ModelInFolder<Device>::template read<Policies>(folder, options);
  return DynamicDecoder<Device, Observer>::plan_memory(found.sizes, found.parts, options.max_batch,
                                                       options.purpose, std::move(device));
}

/// The model in a folder with a config.json and weights: a checkpoint of lnfree, or a Hugging Face GPT-2 or
/// GPT-NeoX, of any size and with policies of `Policies`. Throws Error if the files are damaged or do not
/// belong together, if the model needs something that this program lacks, and if it is too large for the
/// device. Sizes are checked before memory is allocated.
template <class Device, class Observer = NoObserver, class Policies = KnownPolicies>
std::unique_ptr<DynamicDecoder<Device, Observer>> open_model(const std::filesystem::path& folder,
                                                             const OpenOptions& options = {},
                                                             Device device = {}) {
  using Model = DynamicDecoder<Device, Observer>;
  const auto [sizes, parts] = ModelInFolder<Device>::template read<Policies>(folder, options);
  const std::string file = (folder / "config.json").string();

  // A config.json may claim any size, so it is compared with that of the weights.
  Index stored = 0;
  for (const StoredTensor& tensor : read_weights(folder, sizes.heads)) stored += tensor.size();
  int batch = options.max_batch;
  MemoryPlan plan = Model::plan_memory(sizes, parts, batch, options.purpose, device);
  // A loose bound: parameters are padded, bf16 stores them twice, and the length of the position table may
  // differ.
  const double claimed = static_cast<double>(plan.parameters) / sizeof(typename Device::Accumulator);
  if (claimed > 4.0 * static_cast<double>(stored) + 1e6) {
    throw Error(file + " describes a model of " + std::to_string(static_cast<Index>(claimed)) +
                " numbers, its weights are " + std::to_string(stored) + ": the files do not belong together");
  }
  for (const int least = options.min_batch == 0 ? batch : options.min_batch;
       batch > least && plan.total() > free_bytes(device);) {
    batch = std::max(least, batch / 2);
    plan = Model::plan_memory(sizes, parts, batch, options.purpose, device);
  }
  if (plan.total() > free_bytes(device)) {
    throw Error(folder.string() + " takes " + std::to_string(plan.total() >> 20) +
                " MiB as a model, of which " + std::to_string(free_bytes(device) >> 20) +
                " MiB are free on " + device_name(device) +
                (batch > 1              ? "; a smaller batch takes less"
                 : sizes.context > 1024 ? "; a smaller context takes less"
                                        : ""));
  }
  auto model = std::make_unique<Model>(sizes, parts, batch, options.purpose, std::move(device));
  load_weights(*model, folder, ObjectiveWeights::ignored);
  return model;
}

}  // namespace lnfree
