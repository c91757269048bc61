#pragma once

#include <algorithm>
#include <array>
#include <string>
#include <string_view>

#include <lnfree/core/json.hpp>

/// Keys and values in the config.json of a Hugging Face model.
namespace lnfree::hugging_face {

/// Whether a key does not affect the logits: it concerns training, generation, heads other than the language
/// model's, or bookkeeping. The list has the keys that transformers 2 to 5 write.
inline bool changes_no_logits(std::string_view key) {
  constexpr std::array keys = std::to_array<std::string_view>(
      {// sizes that load_weights() checks
       "n_positions", "n_ctx", "max_position_embeddings",
       // the order and the precision of the same sums
       "reorder_and_upcast_attn", "chunk_size_feed_forward", "torch_dtype", "dtype", "use_bfloat16",
       "attn_implementation", "use_cache", "torchscript", "gradient_checkpointing",
       // training
       "attn_pdrop", "embd_pdrop", "resid_pdrop", "attention_dropout", "hidden_dropout", "classifier_dropout",
       "initializer_range", "loss_type", "tf_legacy_loss",
       // other heads
       "architectures", "finetuning_task", "problem_type", "num_labels", "id2label", "label2id", "n_special",
       "predict_special_tokens", "is_decoder", "output_past", "output_attentions", "output_hidden_states",
       "return_dict", "use_return_dict",
       // tokens and text
       "bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id", "unk_token_id",
       "decoder_start_token_id", "tokenizer_class", "prefix", "task_specific_params",
       "vocab_size_or_config_json_file",
       // generation
       "max_length", "min_length", "do_sample", "early_stopping", "num_beams", "num_beam_groups",
       "diversity_penalty", "temperature", "top_k", "top_p", "typical_p", "repetition_penalty",
       "length_penalty", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "bad_words_ids",
       "num_return_sequences", "output_scores", "return_dict_in_generate", "forced_bos_token_id",
       "forced_eos_token_id", "remove_invalid_values", "exponential_decay_length_penalty", "suppress_tokens",
       "begin_suppress_tokens",
       // bookkeeping
       "transformers_version", "name_or_path", "xla_device", "auto_map"});
  return key.starts_with('_') || key.starts_with("summary_") ||
         std::find(keys.begin(), keys.end(), key) != keys.end();
}

/// lnfree's name for an activation that transformers has under several names; other names stay unchanged.
inline Json canonical_activation(const Json& name) {
  if (name == "gelu_pytorch_tanh" || name == "gelu_fast") return "gelu_new";
  if (name == "gelu_python") return "gelu";
  if (name == "swish") return "silu";
  if (name == "relu2") return "squared_relu";
  if (name == "leaky_relu") return "leaky_relu(1/100)";
  return name;
}

/// transformers' name for an activation of lnfree; empty if it has none.
inline std::string activation_name(std::string_view ours) {
  if (ours == "squared_relu") return "relu2";
  if (ours == "leaky_relu(1/100)") return "leaky_relu";
  for (const std::string_view same : {"gelu", "gelu_new", "relu", "silu"}) {
    if (ours == same) return std::string(same);
  }
  return "";
}

/// Whether a value disables its key: null, false, 0, or an empty text, list or object.
inline bool is_disabled(const Json& value) {
  return value.is_null() || value == false || (value.is_number() && value == 0) ||
         ((value.is_string() || value.is_structured()) && (value.empty() || value == ""));
}

/// The end of a message about an unknown key that is not disabled.
inline constexpr const char* unknown_key =
    "which this program does not know; where it changes nothing of what the model computes, remove it from "
    "config.json";

}  // namespace lnfree::hugging_face
