#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <lnfree/checkpoint/binary_file.hpp>
#include <lnfree/checkpoint/hugging_face.hpp>
#include <lnfree/core/json.hpp>
#include <lnfree/core/tensor.hpp>
#include <lnfree/layout/parallel.hpp>
#include <lnfree/layout/pre_norm.hpp>
#include <lnfree/norm/layer_norm.hpp>

/// How a Hugging Face GPT-NeoX (Pythia) differs from lnfree in files: the keys of its config.json, the names
/// of its tensors, and how its matrices are stored.
namespace lnfree::gpt_neox {

/// The base of the rotary positions' angles.
inline constexpr double rotary_base = 10000;

/// The key of to_json(Architecture) with the same meaning as a key of a GPT-NeoX's config.json; empty if
/// there is none.
constexpr std::string_view same_key(std::string_view theirs) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 9> same{
      {{"num_hidden_layers", "n_layer"},
       {"num_attention_heads", "n_head"},
       {"hidden_size", "n_embd"},
       {"intermediate_size", "n_inner"},
       {"max_position_embeddings", "n_positions"},
       {"vocab_size", "vocab_size"},
       {"layer_norm_eps", "layer_norm_epsilon"},
       {"tie_word_embeddings", "tie_word_embeddings"},
       {"use_parallel_residual", "parallel_residual"}}};
  const auto found =
      std::find_if(same.begin(), same.end(), [&](const auto& pair) { return pair.first == theirs; });
  return found == same.end() ? "" : found->second;
}

/// The config.json of a GPT-NeoX in the keys of to_json(Architecture). Calls fault(key, value, expectation)
/// for each value that lnfree does not support.
template <class Fault>
Json config_keys(const Json& saved, const Fault& fault) {
  Json keys{{"norm", LayerNorm::name},       {"final_norm", LayerNorm::name}, {"biases", "all"},
            {"activation_function", "gelu"}, {"layer_norm_epsilon", 1e-5},    {"tie_word_embeddings", false},
            {"parallel_residual", true}};
  Json share = 0.25;  // of a head's channels, which rotary positions rotate
  const auto base = [&](const std::string& key, const Json& value) {
    if (value != rotary_base) fault(key, value, "expected 10000");
  };
  for (const auto& [key, value] : saved.items()) {
    if (value.is_null() || key == "model_type") continue;
    if (const std::string_view ours = same_key(key); !ours.empty()) {
      keys[std::string(ours)] = value;
    } else if (key == "hidden_act") {
      keys["activation_function"] = hugging_face::canonical_activation(value);
    } else if (key == "rotary_pct" || key == "partial_rotary_factor") {
      share = value;
    } else if (key == "rotary_emb_base" || key == "rope_theta") {
      base(key, value);
    } else if (key == "attention_bias") {
      if (value != true) fault(key, value, "expected true");
    } else if ((key == "rope_parameters" || key == "rope_scaling") && value.is_object()) {
      for (const auto& [inner, setting] : value.items()) {
        if (inner == "partial_rotary_factor") {
          share = setting;
        } else if (inner == "rope_theta") {
          base(key + "." + inner, setting);
        } else if ((inner != "rope_type" && inner != "type") || setting != "default") {
          fault(key + "." + inner, setting, hugging_face::unknown_key);
        }
      }
    } else if (!hugging_face::changes_no_logits(key) && !hugging_face::is_disabled(value)) {
      fault(key, value, hugging_face::unknown_key);
    }
  }
  keys["layout"] = keys["parallel_residual"] == true ? Parallel::name : PreNorm::name;
  const Json width = keys.value("n_embd", Json()), heads = keys.value("n_head", Json());
  if (width.is_number_integer() && heads.is_number_integer() && heads > 0 && share.is_number()) {
    const double dims = static_cast<double>(width.get<Index>() / heads.get<Index>()) * share.get<double>();
    if (dims >= 2 && dims < 1e6) {
      keys["rotary_dims"] = static_cast<int>(dims);
    } else {
      fault("rotary_pct", share, "expected a share of at least two channels of each head");
    }
  }
  return keys;
}

/// How a tensor of a GPT-NeoX is stored.
enum class Storage {
  same,        ///< As in lnfree.
  transposed,  ///< A matrix (out, in), which is (in, out) in lnfree.
  per_head  ///< Q, K and V of each head together, (H, 3, head_dim), which are Q | K | V in lnfree; a matrix
            ///< is also transposed.
};

/// A tensor in a GPT-NeoX and in lnfree.
struct Counterpart {
  std::string_view theirs;  ///< Its name in a GPT-NeoX.
  std::string_view ours;    ///< Its name in lnfree.
  Storage storage;          ///< How a GPT-NeoX stores it.
};

/// The tensors outside the blocks.
inline constexpr std::array<Counterpart, 4> outer_tensors{
    {{"embed_in.weight", "wte.weight", Storage::same},
     {"final_layer_norm.weight", "ln_f.weight", Storage::same},
     {"final_layer_norm.bias", "ln_f.bias", Storage::same},
     {"embed_out.weight", "lm_head.weight", Storage::same}}};

/// The tensors of a block; their names follow "layers.N." in a GPT-NeoX and "h.N." in lnfree.
inline constexpr std::array<Counterpart, 12> block_tensors{
    {{"input_layernorm.weight", "ln_1.weight", Storage::same},
     {"input_layernorm.bias", "ln_1.bias", Storage::same},
     {"attention.query_key_value.weight", "attn.c_attn.weight", Storage::per_head},
     {"attention.query_key_value.bias", "attn.c_attn.bias", Storage::per_head},
     {"attention.dense.weight", "attn.c_proj.weight", Storage::transposed},
     {"attention.dense.bias", "attn.c_proj.bias", Storage::same},
     {"post_attention_layernorm.weight", "ln_2.weight", Storage::same},
     {"post_attention_layernorm.bias", "ln_2.bias", Storage::same},
     {"mlp.dense_h_to_4h.weight", "mlp.c_fc.weight", Storage::transposed},
     {"mlp.dense_h_to_4h.bias", "mlp.c_fc.bias", Storage::same},
     {"mlp.dense_4h_to_h.weight", "mlp.c_proj.weight", Storage::transposed},
     {"mlp.dense_4h_to_h.bias", "mlp.c_proj.bias", Storage::same}}};

/// A tensor's translated name, and how a GPT-NeoX stores it.
struct NameAndStorage {
  std::string name;  ///< The translated name.
  Storage storage;   ///< How a GPT-NeoX stores it.
};

/// Translates a tensor's name from one member of Counterpart to another; the names of blocks begin with
/// `from_block` and `to_block`. Returns nothing for an unknown name.
inline std::optional<NameAndStorage> translated(std::string_view name, std::string_view from_block,
                                                std::string_view Counterpart::* from,
                                                std::string_view to_block,
                                                std::string_view Counterpart::* to) {
  for (const Counterpart& pair : outer_tensors) {
    if (name == pair.*from) return NameAndStorage{std::string(pair.*to), pair.storage};
  }
  if (!name.starts_with(from_block)) return std::nullopt;
  const std::size_t dot = name.find('.', from_block.size());
  if (dot == std::string_view::npos) return std::nullopt;
  for (const Counterpart& pair : block_tensors) {
    if (name.substr(dot + 1) != pair.*from) continue;
    std::string result(to_block);
    result.append(name.substr(from_block.size(), dot + 1 - from_block.size())).append(pair.*to);
    return NameAndStorage{std::move(result), pair.storage};
  }
  return std::nullopt;
}

/// lnfree's name for a tensor of a GPT-NeoX, whose name may have the prefix "gpt_neox."; nothing for an
/// unknown name.
inline std::optional<NameAndStorage> our_name(std::string_view theirs) {
  constexpr std::string_view prefix = "gpt_neox.";
  if (theirs.starts_with(prefix)) theirs.remove_prefix(prefix.size());
  return translated(theirs, "layers.", &Counterpart::theirs, "h.", &Counterpart::ours);
}

/// The name of lnfree's tensor in a GPTNeoXForCausalLM; nothing if it has no counterpart.
inline std::optional<NameAndStorage> their_name(std::string_view ours) {
  auto found = translated(ours, "h.", &Counterpart::ours, "layers.", &Counterpart::theirs);
  if (found && found->name != "embed_out.weight") found->name.insert(0, "gpt_neox.");
  return found;
}

/// Whether a tensor is one of the buffers that earlier versions of transformers stored with the weights:
/// masks and frequencies.
inline bool is_buffer(std::string_view name) {
  return name.ends_with(".attention.bias") || name.ends_with(".attention.masked_bias") ||
         name.ends_with(".rotary_emb.inv_freq");
}

/// Reorders the rows (3 C, columns) of Q, K and V from (first, second, head_dim) to (second, first,
/// head_dim): with (heads, 3) from a GPT-NeoX's order to lnfree's, with (3, heads) back.
inline std::vector<float> regrouped(const std::vector<float>& values, Index first, Index second) {
  std::vector<float> result(values.size());
  const auto piece = static_cast<Index>(values.size()) / (first * second);  // head_dim rows
  for (Index i = 0; i < first; ++i) {
    for (Index j = 0; j < second; ++j)
      std::copy_n(values.begin() + (i * second + j) * piece, piece, result.begin() + (j * first + i) * piece);
  }
  return result;
}

/// Converts a tensor of a GPT-NeoX to lnfree's storage; `shape` is that of the result.
inline std::vector<float> to_ours(std::vector<float> values, Storage storage, const std::vector<Index>& shape,
                                  Index heads) {
  if (storage == Storage::per_head) values = regrouped(values, heads, 3);
  if (storage == Storage::same || shape.size() != 2) return values;
  return transposed(values, shape[1], shape[0]);
}

/// Converts a tensor of lnfree, of that shape, to a GPT-NeoX's storage.
inline std::vector<float> to_theirs(std::vector<float> values, Storage storage,
                                    const std::vector<Index>& shape, Index heads) {
  if (storage != Storage::same && shape.size() == 2) values = transposed(values, shape[0], shape[1]);
  if (storage == Storage::per_head) values = regrouped(values, 3, heads);
  return values;
}

}  // namespace lnfree::gpt_neox
