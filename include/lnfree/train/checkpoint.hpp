#pragma once

#include <fcntl.h>
#include <stdio.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

#include <lnfree/core/json.hpp>

#include <lnfree/core/atomic_file.hpp>
#include <lnfree/core/config.hpp>
#include <lnfree/core/error.hpp>
#include <lnfree/nn/parameter.hpp>
#include <lnfree/norm/layer_norm.hpp>
#include <lnfree/optim/adamw.hpp>
#include <lnfree/train/safetensors.hpp>
#include <lnfree/version.hpp>

/// A checkpoint is a folder:
///
///   model.safetensors      the weights, with the names and the (in, out) layout of a Hugging Face GPT-2
///   config.json            the architecture, in the keys of a Hugging Face GPT-2 config and a few of our own
///   optimizer.safetensors  AdamW's moments, "m." and "v." before the tensor's name
///   trainer.json           what else it takes to go on exactly where it stopped
namespace lnfree {

/// Where the old folder stands for a moment on a file system that cannot exchange two names.
inline std::filesystem::path previous_folder(std::filesystem::path target) {
  return target += ".previous";
}

/// Puts the finished folder `fresh` in the place of `target`, which may exist: whoever looks at `target` sees
/// the old folder or the new one, whole. Where the file system cannot exchange names, there is a moment in
/// which recover_folder() has to be asked for the old one.
inline void replace_folder(const std::filesystem::path& fresh, const std::filesystem::path& target) {
  const auto rename = [](const std::filesystem::path& from, const std::filesystem::path& to, unsigned flags) {
    return ::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), flags) == 0;
  };
  const bool exists = std::filesystem::exists(target);
  const bool exchanged = exists && rename(fresh, target, RENAME_EXCHANGE);
  if (!exchanged) {
    const std::filesystem::path previous = previous_folder(target);
    if (exists) std::filesystem::remove_all(previous);
    if ((exists && !rename(target, previous, 0)) || !rename(fresh, target, 0)) {
      throw Error("cannot rename " + fresh.string() + " to " + target.string() + ": " + std::strerror(errno));
    }
    if (exists) std::filesystem::remove_all(previous);
  }
  sync_folder(std::filesystem::absolute(target).parent_path());
  if (exchanged) std::filesystem::remove_all(fresh);
}

/// Puts the old folder back if a process died in the midst of replace_folder().
inline void recover_folder(const std::filesystem::path& target) {
  const std::filesystem::path previous = previous_folder(target);
  if (!std::filesystem::exists(target) && std::filesystem::exists(previous)) {
    std::filesystem::rename(previous, target);
  }
}

/// The architecture of `Model` as config.json.
template <class Model>
Json config_json() {
  constexpr DecoderConfig config = Model::config;
  const char* const biases = config.biases == Biases::all    ? "all"
                             : config.biases == Biases::none ? "none"
                                                             : "query_key";
  // What GPT-2 is elsewhere. A reader that knows only that would put norms where there are none.
  const bool is_gpt2 = config.rotary_dims == 0 && !config.parallel_residual &&
                       std::is_same_v<typename Model::Norm, LayerNorm> &&
                       std::is_same_v<typename Model::FinalNormPolicy, LayerNorm>;
  return {{"model_type", is_gpt2 ? "gpt2" : "lnfree"},
          {"n_layer", config.layers},
          {"n_head", config.heads},
          {"n_embd", config.width},
          {"n_inner", config.ffn_width},
          {"n_positions", config.position_rows()},
          {"n_ctx", config.context},
          {"vocab_size", config.vocab_size},
          {"activation_function", Model::Activation::name},
          {"layer_norm_epsilon", 1e-5},
          {"tie_word_embeddings", config.tied_output},
          {"norm", Model::Norm::name},
          {"final_norm", Model::FinalNormPolicy::name},
          {"biases", biases},
          {"rotary_dims", config.rotary_dims},
          {"parallel_residual", config.parallel_residual},
          {"lnfree_version", LNFREE_VERSION}};
}

/// The tensors of any array laid out like the model's parameters, for save_safetensors.
template <class Model>
std::vector<NamedTensor> named_tensors(Model& model, const typename Model::Accumulator* array,
                                       const std::string& prefix = "") {
  std::vector<NamedTensor> tensors;
  for (const auto& parameter : model.parameters().all()) {
    tensors.push_back({prefix + parameter.name, parameter.shape, [&model, &parameter, array] {
                         const auto values = model.parameters().read(model.device(), parameter, array);
                         return std::vector<float>(values.begin(), values.end());
                       }});
  }
  return tensors;
}

/// Writes the weights.
template <class Model>
void save_weights(Model& model, const std::filesystem::path& path) {
  save_safetensors(path, named_tensors(model, model.parameters().masters()));
}

/// Reads the weights of a Hugging Face GPT-2 of this architecture, whoever wrote them. Names may carry the
/// prefix "transformer."; buffers that are no weights are passed over, and so is the copy of a tied output
/// matrix. The position table may have any number of rows that covers the context, since no other row is ever
/// used. Throws Error naming the first tensor that differs; the model is then unchanged.
template <class Model>
void load_weights(Model& model, const std::filesystem::path& path) {
  constexpr DecoderConfig config = Model::config;
  const SafetensorsFile file = SafetensorsFile::open(path);
  auto& parameters = model.parameters();

  std::map<std::string, const TensorInfo*> stored;
  for (const TensorInfo& tensor : file.tensors()) {
    std::string name = tensor.name;
    if (name.starts_with("transformer.")) name.erase(0, std::string_view("transformer.").size());
    if (name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias")) continue;
    if (config.tied_output && name == "lm_head.weight") continue;
    stored[name] = &tensor;
  }
  const auto differs = [&](const std::string& name, const std::string& how) {
    return Error(path.string() + " is of another architecture than this program: tensor " + name + " " + how);
  };
  for (const auto& parameter : parameters.all()) {
    const auto found = stored.find(parameter.name);
    if (found == stored.end())
      throw differs(parameter.name, "is missing; expected " + shape_text(parameter.shape));
    const TensorInfo& tensor = *found->second;
    file.check_type(tensor);
    const bool positions = parameter.name == "wpe.weight" && tensor.shape.size() == 2 &&
                           tensor.shape[0] >= config.context && tensor.shape[1] == config.width;
    const bool scalar = parameter.kind == ParameterKind::slope && tensor.size() == 1;
    if (tensor.shape != parameter.shape && !positions && !scalar) {
      throw differs(parameter.name,
                    "is " + shape_text(tensor.shape) + " there, expected " + shape_text(parameter.shape));
    }
    if (parameter.trainable < parameter.size()) {
      const std::vector<float> values = file.read(tensor);
      if (std::any_of(values.begin() + parameter.trainable, values.end(), [](float x) { return x != 0; })) {
        throw differs(parameter.name, "has a bias for the values, where this program has none");
      }
    }
    stored.erase(found);
  }
  if (!stored.empty()) throw differs(stored.begin()->first, "has no counterpart here");

  for (auto& parameter : parameters.all()) {
    const TensorInfo* tensor = file.find(parameter.name);
    if (tensor == nullptr) tensor = file.find("transformer." + parameter.name);
    std::vector<float> values = file.read(*tensor);
    // Position rows that the file lacks keep what they have.
    auto host = parameters.read(model.device(), parameter);
    std::copy_n(values.begin(), std::min(values.size(), host.size()), host.begin());
    parameters.write(model.device(), parameter, host.data());
  }
}

/// Writes a checkpoint to `folder`, replacing the one there in one step: a process that dies while saving
/// leaves the previous checkpoint whole. `state` becomes trainer.json; the optimizer's update count is added
/// to it.
template <class Model>
void save_checkpoint(std::filesystem::path folder, Model& model, const AdamW<Model>& optimizer, Json state) {
  if (!folder.has_filename()) folder = folder.parent_path();  // "run/" is "run"
  std::filesystem::path fresh = folder;
  fresh += ".part";
  std::error_code error;
  std::filesystem::remove_all(fresh, error);
  std::filesystem::create_directories(fresh, error);
  if (error) throw Error("cannot create " + fresh.string() + ": " + error.message());
  save_weights(model, fresh / "model.safetensors");
  std::vector<NamedTensor> moments = named_tensors(model, optimizer.m(), "m.");
  for (NamedTensor& tensor : named_tensors(model, optimizer.v(), "v.")) moments.push_back(std::move(tensor));
  save_safetensors(fresh / "optimizer.safetensors", moments);
  write_file(fresh / "config.json", config_json<Model>().dump(2) + "\n");
  state["updates"] = optimizer.updates();
  write_file(fresh / "trainer.json", state.dump(2) + "\n");
  replace_folder(fresh, folder);
}

/// A JSON file of a checkpoint. Throws Error when there is none or it is damaged.
inline Json read_checkpoint_json(const std::filesystem::path& path) {
  std::ifstream in(path);
  if (!in) throw Error("there is no checkpoint to resume from: cannot read " + path.string());
  Json json = Json::parse(in, nullptr, false);
  if (!json.is_object()) throw Error(path.string() + " is damaged: it holds no JSON object");
  return json;
}

/// A count that a checkpoint's trainer.json must hold. Throws Error when it does not.
inline std::int64_t checkpoint_count(const std::filesystem::path& folder, const Json& state,
                                     const char* key) {
  const auto found = state.find(key);
  if (found == state.end() || !found->is_number_integer() || found->get<std::int64_t>() < 0)
    throw Error((folder / "trainer.json").string() + " is damaged: it holds no count of " + key);
  return found->get<std::int64_t>();
}

/// The trainer.json of a checkpoint. Throws Error when there is none or it is damaged.
inline Json read_checkpoint_state(const std::filesystem::path& folder) {
  recover_folder(folder);
  return read_checkpoint_json(folder / "trainer.json");
}

/// What the config.json in a folder says otherwise than the model is built, in words: two models may have the
/// same tensors and still compute something else, with another activation for one. Empty when all it says
/// agrees. What lnfree wrote must agree in every key. Keys that another program left out say nothing, and
/// the size of its position table is for load_weights to judge.
template <class Model>
std::string architecture_difference(const std::filesystem::path& folder) {
  const Json saved = read_checkpoint_json(folder / "config.json");
  const bool is_own = saved.contains("lnfree_version");
  Json expected = config_json<Model>();
  // The one is another with every version; the other follows from the rest, and was gpt2 for more once.
  for (const char* key : {"lnfree_version", "model_type"}) expected.erase(key);
  if (!is_own) {
    for (const char* key : {"n_positions", "n_ctx"}) expected.erase(key);
  }
  for (const auto& [key, value] : expected.items()) {
    const Json found = saved.value(key, Json());
    if (found == value || (!is_own && found.is_null())) continue;
    return folder.string() + " is of another architecture than this program: its " + key + " is " +
           (found.is_null() ? "missing" : found.dump()) + ", expected " + value.dump();
  }
  return "";
}

/// Restores the weights from a checkpoint. Throws Error when it is of another architecture, naming the first
/// tensor or else the first key of config.json that differs; the model is then unchanged.
template <class Model>
void load_checkpoint(std::filesystem::path folder, Model& model) {
  recover_folder(folder);
  const std::string difference = architecture_difference<Model>(folder);
  if (!difference.empty()) throw Error(difference);
  load_weights(model, folder / "model.safetensors");
}

/// The same, with the optimizer.
template <class Model>
void load_checkpoint(const std::filesystem::path& folder, Model& model, AdamW<Model>& optimizer) {
  const std::int64_t updates = checkpoint_count(folder, read_checkpoint_state(folder), "updates");
  load_checkpoint(folder, model);
  const SafetensorsFile moments = SafetensorsFile::open(folder / "optimizer.safetensors");
  for (const auto& parameter : model.parameters().all()) {
    for (const auto& [prefix, array] : {std::pair{"m.", optimizer.m()}, std::pair{"v.", optimizer.v()}}) {
      const std::string name = prefix + parameter.name;
      const TensorInfo* tensor = moments.find(name);
      if (tensor == nullptr || tensor->shape != parameter.shape) {
        throw Error(moments.path().string() + " does not belong to this program: tensor " + name +
                    " is missing or of another shape");
      }
      const std::vector<float> values = moments.read(*tensor);
      const std::vector<typename Model::Accumulator> converted(values.begin(), values.end());
      copy_to_device(model.device(), array + parameter.offset, converted.data(),
                     converted.size() * sizeof(typename Model::Accumulator));
    }
  }
  optimizer.set_updates(updates);
}

}  // namespace lnfree
