#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include <lnfree/checkpoint/architecture.hpp>
#include <lnfree/checkpoint/fold.hpp>
#include <lnfree/checkpoint/gpt_neox.hpp>
#include <lnfree/checkpoint/hugging_face.hpp>
#include <lnfree/checkpoint/safetensors.hpp>
#include <lnfree/core/atomic_file.hpp>
#include <lnfree/core/error.hpp>

#include "found_model.hpp"
#include "modeling_lnfree.hpp"
#include "options.hpp"

namespace convert {

using namespace lnfree;

/// Writes model.safetensors, or several files of at most that many bytes and an index of their tensors. A
/// tensor is never split.
inline void write_shards(const std::filesystem::path& folder, const std::vector<NamedTensor>& tensors,
                         const Options& options) {
  const std::string type = options.stored_type();
  const std::uint64_t most = bytes_of(options.max_shard_size);
  std::vector<std::vector<NamedTensor>> shards(1);
  std::uint64_t total = 0, in_shard = 0;
  for (const NamedTensor& tensor : tensors) {
    const std::uint64_t bytes = static_cast<std::uint64_t>(tensor.size()) * element_bytes(type);
    if (in_shard > 0 && in_shard + bytes > most) {
      shards.emplace_back();
      in_shard = 0;
    }
    shards.back().push_back(tensor);
    in_shard += bytes;
    total += bytes;
  }
  if (shards.size() == 1) return save_safetensors(folder / "model.safetensors", tensors, type);
  Json map = Json::object();
  for (std::size_t i = 0; i < shards.size(); ++i) {
    char name[64];
    std::snprintf(name, sizeof(name), "model-%05zu-of-%05zu.safetensors", i + 1, shards.size());
    save_safetensors(folder / name, shards[i], type);
    for (const NamedTensor& tensor : shards[i]) map[tensor.name] = name;
  }
  const Json index{{"metadata", {{"total_size", total}}}, {"weight_map", map}};
  write_file(folder / "model.safetensors.index.json", index.dump(2) + "\n");
}

inline void write_config(const std::filesystem::path& folder, const Json& config) {
  write_file(folder / "config.json", config.dump(2) + "\n");
}

/// Writes a Hugging Face GPT-2 that computes the same.
inline void write_gpt2(const std::filesystem::path& folder, FoundModel model, const Options& options) {
  add_zero_biases(model);
  const Architecture& architecture = model.architecture;
  const DecoderConfig& sizes = architecture.sizes;
  std::vector<NamedTensor> tensors = in_order(model);
  for (NamedTensor& tensor : tensors) {
    if (tensor.name != "lm_head.weight") tensor.name.insert(0, "transformer.");
  }
  write_shards(folder, tensors, options);
  write_config(folder, {{"architectures", {"GPT2LMHeadModel"}},
                        {"model_type", "gpt2"},
                        {"n_layer", sizes.layers},
                        {"n_head", sizes.heads},
                        {"n_embd", sizes.width},
                        {"n_inner", sizes.ffn_width},
                        {"n_positions", sizes.position_rows()},
                        {"vocab_size", sizes.vocab_size},
                        {"activation_function", hugging_face::activation_name(architecture.activation)},
                        {"layer_norm_epsilon", architecture.layer_norm_epsilon},
                        {"tie_word_embeddings", sizes.tied_output},
                        {"scale_attn_weights", true},
                        {"bos_token_id", nullptr},
                        {"eos_token_id", nullptr},
                        {"torch_dtype", options.dtype}});
}

/// The share for which int(head_dim * share) is the number of rotated channels.
inline double rotary_share(const DecoderConfig& sizes) {
  const double share = static_cast<double>(sizes.rotary_dims) / sizes.head_dim();
  return static_cast<int>(sizes.head_dim() * share) == sizes.rotary_dims ? share : std::nextafter(share, 1.0);
}

/// Writes a Hugging Face GPT-NeoX that computes the same.
inline void write_gpt_neox(const std::filesystem::path& folder, FoundModel model, const Options& options) {
  add_zero_biases(model);
  const Architecture& architecture = model.architecture;
  const DecoderConfig& sizes = architecture.sizes;
  std::vector<NamedTensor> tensors = in_order(model);
  for (NamedTensor& tensor : tensors) {
    const auto there = gpt_neox::their_name(tensor.name);
    if (!there) throw Error("a GPT-NeoX has no tensor for " + tensor.name);
    const auto storage = there->storage;
    tensor.name = there->name;
    tensor.data = [ours = tensor.data, storage, shape = tensor.shape, heads = sizes.heads] {
      return gpt_neox::to_theirs(ours(), storage, shape, heads);
    };
    if (storage != gpt_neox::Storage::same) std::reverse(tensor.shape.begin(), tensor.shape.end());
  }
  write_shards(folder, tensors, options);
  write_config(folder, {{"architectures", {"GPTNeoXForCausalLM"}},
                        {"model_type", "gpt_neox"},
                        {"num_hidden_layers", sizes.layers},
                        {"num_attention_heads", sizes.heads},
                        {"hidden_size", sizes.width},
                        {"intermediate_size", sizes.ffn_width},
                        {"max_position_embeddings", sizes.context},
                        {"vocab_size", sizes.vocab_size},
                        {"hidden_act", hugging_face::activation_name(architecture.activation)},
                        {"layer_norm_eps", architecture.layer_norm_epsilon},
                        {"tie_word_embeddings", sizes.tied_output},
                        {"rotary_pct", rotary_share(sizes)},
                        {"rotary_emb_base", gpt_neox::rotary_base},
                        {"use_parallel_residual", architecture.layout == Parallel::name},
                        {"attention_bias", true},
                        {"bos_token_id", nullptr},
                        {"eos_token_id", nullptr},
                        {"torch_dtype", options.dtype}});
}

/// Writes any lnfree model, with the Python source that computes it.
inline void write_remote_code(const std::filesystem::path& folder, const FoundModel& model,
                              const Options& options) {
  Json config = to_json(model.architecture);
  config["model_type"] = "lnfree";
  config["architectures"] = {"LnfreeForCausalLM"};
  config["auto_map"] = {{"AutoConfig", "modeling_lnfree.LnfreeConfig"},
                        {"AutoModelForCausalLM", "modeling_lnfree.LnfreeForCausalLM"}};
  config["torch_dtype"] = options.dtype;
  write_shards(folder, in_order(model), options);
  write_file(folder / "modeling_lnfree.py", modeling_lnfree);
  write_config(folder, config);
}

/// Whether a Hugging Face GPT-NeoX can compute the same, with zero biases where there are none.
inline bool is_gpt_neox(const Architecture& architecture) {
  return architecture.sizes.rotary_dims > 0 && architecture.norm == LayerNorm::name &&
         architecture.final_norm == LayerNorm::name &&
         (architecture.layout == Parallel::name || architecture.layout == PreNorm::name);
}

/// Writes the model for transformers; returns the name of the class that reads it.
inline std::string write_hugging_face(const std::filesystem::path& folder, FoundModel model,
                                      const Options& options) {
  drop_objective(model);
  trim_positions(model);
  const Architecture& architecture = model.architecture;
  if (is_removable(architecture.norm) || is_removable(architecture.final_norm)) {
    throw Error(options.from.string() +
                " has norms that are being removed, which transformers does not have; convert it with --fold "
                "once they are removed");
  }
  const bool is_known = !hugging_face::activation_name(architecture.activation).empty();
  if (is_known && architecture.is_gpt2()) {
    write_gpt2(folder, std::move(model), options);
    return "GPT2LMHeadModel";
  }
  if (is_known && is_gpt_neox(architecture)) {
    write_gpt_neox(folder, std::move(model), options);
    return "GPTNeoXForCausalLM";
  }
  write_remote_code(folder, model, options);
  return "AutoModelForCausalLM with trust_remote_code=True";
}

}  // namespace convert
