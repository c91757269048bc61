#pragma once

#include <filesystem>
#include <string>
#include <type_traits>
#include <utility>

#include <lnfree/checkpoint/folder.hpp>
#include <lnfree/checkpoint/gpt_neox.hpp>
#include <lnfree/checkpoint/hugging_face.hpp>
#include <lnfree/core/config.hpp>
#include <lnfree/core/error.hpp>
#include <lnfree/core/excerpt.hpp>
#include <lnfree/core/json.hpp>
#include <lnfree/fwd.hpp>
#include <lnfree/layout/parallel.hpp>
#include <lnfree/layout/pre_norm.hpp>
#include <lnfree/norm/identity.hpp>
#include <lnfree/norm/layer_norm.hpp>
#include <lnfree/version.hpp>

namespace lnfree {

/// All that a model's logits depend on besides its weights, as in a config.json: its sizes, and the names of
/// its policies. `sizes.final_norm` and `sizes.parallel_residual` agree with `final_norm` and `layout`.
struct Architecture {
  DecoderConfig sizes{};                           ///< The sizes, and the choices beside them.
  std::string norm;                                ///< Of the blocks: "layer_norm", "identity", ...
  std::string final_norm;                          ///< Before the logits.
  std::string activation;                          ///< "gelu", "relu", "relu*4+gelu", ...
  std::string layout;                              ///< "pre_norm", "parallel", ...
  double layer_norm_epsilon = LayerNorm::epsilon;  ///< Of every layer_norm.
  /// The objective that the weights were trained with; empty for the cross-entropy. No logit depends on it,
  /// but some of the weights may be its parameters.
  std::string objective;

  /// Whether a Hugging Face GPT-2 computes the same, with zero biases where this model has none.
  bool is_gpt2() const {
    return sizes.rotary_dims == 0 && layout == PreNorm::name && norm == LayerNorm::name &&
           final_norm == LayerNorm::name;
  }
};

/// The architecture of `Model` with these sizes.
template <class Model>
Architecture architecture_with(const DecoderConfig& sizes) {
  Architecture result{.sizes = sizes,
                      .norm = std::string(Model::Norm::name),
                      .final_norm = std::string(Model::FinalNormPolicy::name),
                      .activation = std::string(Model::Activation::name),
                      .layout = std::string(Model::Layout::name),
                      .objective = ""};
  if (!std::is_same_v<typename Model::Objective, CrossEntropy<typename Model::Device>>)
    result.objective = Model::Objective::name;
  return result;
}

/// The architecture of a model.
template <class Model>
Architecture architecture_of(const Model& model) {
  return architecture_with<Model>(model.config);
}

/// The architecture of a type whose sizes are known at compile time.
template <class Model>
Architecture architecture_of() {
  return architecture_with<Model>(Model::config);
}

/// The content of config.json: the keys of a Hugging Face GPT-2, and some of lnfree.
inline Json to_json(const Architecture& architecture) {
  const DecoderConfig& sizes = architecture.sizes;
  const char* const biases = sizes.biases == Biases::all    ? "all"
                             : sizes.biases == Biases::none ? "none"
                                                            : "query_key";
  // A program that knows only GPT-2 would add norms to a model without them.
  Json json = {{"model_type", architecture.is_gpt2() ? "gpt2" : "lnfree"},
               {"n_layer", sizes.layers},
               {"n_head", sizes.heads},
               {"n_embd", sizes.width},
               {"n_inner", sizes.ffn_width},
               {"n_positions", sizes.position_rows()},
               {"n_ctx", sizes.context},
               {"vocab_size", sizes.vocab_size},
               {"activation_function", architecture.activation},
               {"layer_norm_epsilon", architecture.layer_norm_epsilon},
               {"tie_word_embeddings", sizes.tied_output},
               {"norm", architecture.norm},
               {"final_norm", architecture.final_norm},
               {"biases", biases},
               {"rotary_dims", sizes.rotary_dims},
               {"parallel_residual", architecture.layout == Parallel::name},
               {"layout", architecture.layout},
               {"lnfree_version", LNFREE_VERSION}};
  if (!architecture.objective.empty()) json["objective"] = architecture.objective;
  return json;
}

/// The architecture of `Model` as config.json.
template <class Model>
Json config_json() {
  return to_json(architecture_of<Model>());
}

/// The content of a config.json of any program, in the keys of to_json(Architecture). Keys that the file
/// lacks are missing here, too.
struct SavedConfig {
  Json keys = Json::object();  ///< The values by key.
  bool is_own = false;         ///< Whether lnfree wrote it, and so wrote every key.
  /// The first thing that lnfree does not support, as "its KEY is VALUE, ..."; empty if there is none.
  std::string fault;
};

/// Reads the config.json in a folder. Throws Error if there is none or it is damaged.
inline SavedConfig read_saved_config(const std::filesystem::path& folder) {
  require_model_folder(folder);
  const Json saved = read_json_object(folder / "config.json");
  SavedConfig result{.is_own = saved.contains("lnfree_version"), .fault = ""};
  const auto fault = [&](const std::string& key, const Json& value, const std::string& otherwise) {
    if (result.fault.empty())
      result.fault = "its " + excerpt(key) + " is " + excerpt(value.dump()) + ", " + otherwise;
  };
  const Json type = saved.value("model_type", Json());
  if (type == "gpt_neox") {
    result.keys = gpt_neox::config_keys(saved, fault);
  } else {
    if (!type.is_null() && type != "gpt2" && type != "lnfree")
      fault("model_type", type, R"(expected "gpt2", "gpt_neox" or "lnfree")");
    const Json known = to_json(Architecture());
    for (const auto& [key, value] : saved.items()) {
      if (key == "activation_function") {
        result.keys[key] = hugging_face::canonical_activation(value);
      } else if (key == "scale_attn_weights") {
        if (!value.is_null() && value != true) fault(key, value, "expected true");
      } else if (known.contains(key) || key == "objective") {
        result.keys[key] = value;
      } else if (!hugging_face::changes_no_logits(key) && !hugging_face::is_disabled(value)) {
        fault(key, value, hugging_face::unknown_key);
      }
    }
  }
  // transformers leaves this key out when it saves a model with its default.
  if (result.is_own && !result.keys.contains("tie_word_embeddings"))
    result.keys["tie_word_embeddings"] = true;
  // Earlier versions had two layouts, which differed in parallel_residual.
  if (!result.keys.contains("layout") && result.keys.contains("parallel_residual"))
    result.keys["layout"] = result.keys["parallel_residual"] == true ? Parallel::name : PreNorm::name;
  return result;
}

/// The first difference between two configurations in the keys of to_json(Architecture), in words; empty if
/// they agree. With `may_leave_out`, keys that `found` lacks agree, and the size of the position table is not
/// compared, since load_weights() checks it.
inline std::string config_difference(const Json& expected, const Json& found, bool may_leave_out = false) {
  for (const auto& [key, value] : expected.items()) {
    // The version differs between programs. The type follows from the other keys, and earlier versions wrote
    // gpt2 for more models. No logit depends on the objective; its parameters are compared as tensors.
    if (key == "lnfree_version" || key == "model_type" || key == "objective") continue;
    if (may_leave_out && (key == "n_positions" || key == "n_ctx")) continue;
    const Json there = found.value(key, Json());
    if (there == value || (may_leave_out && there.is_null())) continue;
    return "its " + key + " is " + (there.is_null() ? "missing" : excerpt(there.dump())) + ", expected " +
           value.dump();
  }
  return "";
}

/// The first key of config.json in which two architectures differ, with both values; empty if they compute
/// the same.
inline std::string architecture_difference(const Architecture& expected, const Architecture& found) {
  return config_difference(to_json(expected), to_json(found));
}

/// The first difference between the config.json in a folder and `expected`, in words; empty if they agree.
/// Two models can have the same tensors and still compute different logits, for example with different
/// activations. A file that lnfree wrote must agree in every key. In a file of another program, keys may be
/// missing, the size of the position table is not compared, and a key that lnfree does not know is a
/// difference unless its value disables it.
inline std::string architecture_difference(const Architecture& expected,
                                           const std::filesystem::path& folder) {
  const SavedConfig saved = read_saved_config(folder);
  std::string difference = config_difference(to_json(expected), saved.keys, !saved.is_own);
  if (difference.empty()) difference = saved.fault;
  if (difference.empty()) return "";
  return folder.string() + " is of another architecture than this program: " + difference;
}

/// The same for the architecture of `Model`.
template <class Model>
std::string architecture_difference(const std::filesystem::path& folder) {
  return architecture_difference(architecture_of<Model>(), folder);
}

namespace detail {

/// Takes an architecture from the keys of a config.json.
class ArchitectureReader {
 public:
  ArchitectureReader(std::filesystem::path path, const SavedConfig& saved)
      : path_(std::move(path)), keys_(saved.keys) {
    // GPT-2's defaults for keys that its config.json may lack.
    if (saved.is_own) return;
    const Json width = keys_.value("n_embd", Json());
    for (const auto& [key, value] :
         {std::pair<const char*, Json>{"n_inner",
                                       width.is_number_integer() && width >= 0 && width <= max_width
                                           ? Json(4 * width.get<int>())
                                           : Json()},
          {"n_ctx", keys_.value("n_positions", Json())},
          {"activation_function", "gelu_new"},
          {"layer_norm_epsilon", LayerNorm::epsilon},
          {"tie_word_embeddings", true},
          {"norm", LayerNorm::name},
          {"final_norm", LayerNorm::name},
          {"biases", "all"},
          {"rotary_dims", 0},
          {"parallel_residual", false},
          {"layout", PreNorm::name}}) {
      if (keys_.value(key, Json()).is_null()) keys_[key] = value;
    }
    keys_["n_ctx"] = keys_.value("n_positions", Json());  // GPT-2 ignores its own n_ctx
  }

  Architecture read() const {
    Architecture result;
    DecoderConfig& sizes = result.sizes;
    sizes.layers = count("n_layer", 1, max_layers);
    sizes.heads = count("n_head", 1, max_width);
    sizes.width = count("n_embd", 1, max_width);
    sizes.ffn_width = count("n_inner", 1, max_rows);
    sizes.positions = count("n_positions", 1, max_rows);
    sizes.context = count("n_ctx", 1, max_rows);
    sizes.vocab_size = count("vocab_size", 1, max_rows);
    sizes.rotary_dims = count("rotary_dims", 0, max_width);
    if (sizes.width % sizes.heads != 0) {
      throw Error(path_.string() + ": its n_embd of " + std::to_string(sizes.width) +
                  " is not a multiple of its n_head of " + std::to_string(sizes.heads));
    }
    if (sizes.rotary_dims % 2 != 0 || sizes.rotary_dims > sizes.head_dim())
      throw wrong("rotary_dims", "an even number up to " + std::to_string(sizes.head_dim()));
    if (sizes.positions < sizes.context)
      throw wrong("n_positions", "at least its n_ctx, " + std::to_string(sizes.context));
    // 0 means the same, and is what a DecoderConfig in a program has.
    if (sizes.positions == sizes.context) sizes.positions = 0;

    const Json biases = keys_.value("biases", Json());
    if (biases != "all" && biases != "query_key" && biases != "none")
      throw wrong("biases", R"("all", "query_key" or "none")");
    sizes.biases = biases == "all" ? Biases::all : biases == "none" ? Biases::none : Biases::query_key;
    const Json tied = keys_.value("tie_word_embeddings", Json());
    if (!tied.is_boolean()) throw wrong("tie_word_embeddings", "true or false");
    sizes.tied_output = tied.get<bool>();

    result.norm = text("norm");
    result.final_norm = text("final_norm");
    result.activation = text("activation_function");
    result.layout = text("layout");
    if (keys_.contains("objective")) result.objective = text("objective");
    sizes.parallel_residual = result.layout == Parallel::name;
    if (result.final_norm == LayerNorm::name) {
      sizes.final_norm = FinalNorm::layer_norm;
    } else if (result.final_norm == result.norm) {
      sizes.final_norm = FinalNorm::same_as_norm;
    } else if (result.final_norm == Identity::name) {
      sizes.final_norm = FinalNorm::none;
    } else {
      throw wrong("final_norm", "the norm of its blocks, \"layer_norm\" or \"identity\"");
    }
    const Json epsilon = keys_.value("layer_norm_epsilon", Json());
    if (!epsilon.is_number() || !(epsilon.get<double>() >= 0 && epsilon.get<double>() < 1))
      throw wrong("layer_norm_epsilon", "a number from 0 to 1");
    result.layer_norm_epsilon = epsilon.get<double>();
    return result;
  }

 private:
  // Larger than any real model, and so small that products of two of them do not overflow.
  static constexpr int max_layers = 1 << 13, max_width = 1 << 20, max_rows = 1 << 28;

  Error wrong(const char* key, const std::string& expected) const {
    const Json value = keys_.value(key, Json());
    return Error(path_.string() + ": its " + key + " is " +
                 (value.is_null() ? "missing" : excerpt(value.dump())) + ", expected " + expected);
  }
  int count(const char* key, int least, int most) const {
    const Json value = keys_.value(key, Json());
    if (!value.is_number_integer() || value < least || value > most) {
      throw wrong(key, "a whole number from " + std::to_string(least) + " to " + std::to_string(most));
    }
    return value.get<int>();
  }
  std::string text(const char* key) const {
    const Json value = keys_.value(key, Json());
    if (!value.is_string()) throw wrong(key, "a name");
    return value.get<std::string>();
  }

  std::filesystem::path path_;
  Json keys_;
};

}  // namespace detail

/// The architecture that a config.json describes; `path` names the file in messages. Throws Error if lnfree
/// does not support it, or if its sizes are invalid.
inline Architecture read_architecture(const SavedConfig& saved, const std::filesystem::path& path) {
  if (!saved.fault.empty()) throw Error(path.string() + " describes no model of lnfree's: " + saved.fault);
  return detail::ArchitectureReader(path, saved).read();
}

/// The architecture that the config.json in a folder describes: a model of lnfree, or a Hugging Face GPT-2 or
/// GPT-NeoX, whose context is then the length of its position table. The names of the policies are not
/// checked. Throws Error if the file is missing or damaged, if its sizes are invalid, or if lnfree does not
/// support it.
inline Architecture read_architecture(const std::filesystem::path& folder) {
  return read_architecture(read_saved_config(folder), folder / "config.json");
}

}  // namespace lnfree
