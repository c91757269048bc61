#pragma once

#include <fcntl.h>
#include <stdio.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <limits>
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
#include <lnfree/core/excerpt.hpp>
#include <lnfree/layout/parallel.hpp>
#include <lnfree/layout/pre_norm.hpp>
#include <lnfree/nn/parameter.hpp>
#include <lnfree/norm/layer_norm.hpp>
#include <lnfree/objective/cross_entropy.hpp>
#include <lnfree/optim/optimizer.hpp>
#include <lnfree/train/hugging_face_config.hpp>
#include <lnfree/train/safetensors.hpp>
#include <lnfree/version.hpp>

/// A checkpoint is a folder:
///
///   model.safetensors      the weights, with the names and the (in, out) layout of a Hugging Face GPT-2
///   config.json            the architecture, in the keys of a Hugging Face GPT-2 config and a few of our own
///   optimizer.safetensors  the optimizer's state: AdamW's moments are "m." and "v." before the tensor's name
///   trainer.json           what else it takes to go on exactly where it stopped
namespace lnfree {

/// The folder that a path means: without the slash that may end it, and behind the link that it may be, so
/// that a checkpoint which was put on another disk stays there.
inline std::filesystem::path checkpoint_place(std::filesystem::path folder) {
  if (!folder.has_filename()) folder = folder.parent_path();
  constexpr int max_links = 40;  // what the system follows, too
  for (int link = 0; link < max_links && std::filesystem::is_symlink(folder); ++link)
    folder = folder.parent_path() / std::filesystem::read_symlink(folder);
  return folder;
}

/// Where a finished checkpoint waits for the place of an older one, on a file system that cannot exchange two
/// folders.
inline std::filesystem::path next_folder(const std::filesystem::path& folder) {
  return checkpoint_place(folder) += ".next";
}

/// Whether a folder holds all files of a checkpoint: trainer.json is the last to be written and the first to
/// be removed.
inline bool is_whole_checkpoint(const std::filesystem::path& folder) {
  return std::filesystem::exists(folder / "trainer.json");
}

/// The folder to read the checkpoint `folder` from: another one where a process died while it replaced the
/// checkpoint.
inline std::filesystem::path present_checkpoint(const std::filesystem::path& folder) {
  const std::filesystem::path next = next_folder(folder);
  return is_whole_checkpoint(next) ? next : folder;
}

/// Gives the finished checkpoint `next` the place of `target`. There is always a whole one in `next` or, once
/// that is gone, in `target`. Throws Error when the files cannot be written there.
inline void move_checkpoint(const std::filesystem::path& next, const std::filesystem::path& target) {
  std::error_code error;
  std::filesystem::remove_all(target, error);
  if (std::filesystem::rename(next, target, error); !error) return;
  // An overlay cannot rename a folder that comes from a lower layer, and a folder that something is mounted
  // on can neither be removed nor replaced. Both take files.
  error.clear();
  std::filesystem::create_directories(target, error);
  if (!error) {
    constexpr auto over = std::filesystem::copy_options::overwrite_existing;
    std::filesystem::copy(next, target, over | std::filesystem::copy_options::recursive, error);
  }
  if (error) {
    throw Error("cannot copy the checkpoint from " + next.string() + " to " + target.string() + ": " +
                error.message() + "; it is whole where it is");
  }
  sync_file_system(target);
  std::filesystem::remove(next / "trainer.json", error);
  std::filesystem::remove_all(next, error);
}

/// Completes what a process that died in replace_checkpoint() had begun. For whoever writes the checkpoint:
/// readers ask present_checkpoint().
inline void recover_checkpoint(const std::filesystem::path& folder) {
  if (const auto next = next_folder(folder); is_whole_checkpoint(next))
    move_checkpoint(next, checkpoint_place(folder));
}

/// Puts the finished checkpoint `fresh` in the place of `target`, which may exist: whoever looks at `target`
/// sees the old one or the new one, whole. Where the file system cannot exchange two folders, there is a
/// moment in which only present_checkpoint() knows where it is.
inline void replace_checkpoint(const std::filesystem::path& fresh, const std::filesystem::path& target) {
  recover_checkpoint(target);
  const std::filesystem::path parent = std::filesystem::absolute(target).parent_path();
  const bool exists = std::filesystem::exists(target);
  if (exists && ::renameat2(AT_FDCWD, fresh.c_str(), AT_FDCWD, target.c_str(), RENAME_EXCHANGE) == 0) {
    sync_folder(parent);
    std::filesystem::remove_all(fresh);
    return;
  }
  const std::filesystem::path place = exists ? next_folder(target) : target;
  std::error_code error;
  if (exists) std::filesystem::remove_all(place, error);
  if (std::filesystem::rename(fresh, place, error); error) {
    throw Error("cannot rename " + fresh.string() + " to " + place.string() + ": " + error.message());
  }
  sync_folder(parent);
  if (!exists) return;
  move_checkpoint(place, target);
  sync_folder(parent);
}

/// The architecture of `Model` as config.json.
template <class Model>
Json config_json() {
  constexpr DecoderConfig config = Model::config;
  const char* const biases = config.biases == Biases::all    ? "all"
                             : config.biases == Biases::none ? "none"
                                                             : "query_key";
  // What GPT-2 is elsewhere. A reader that knows only that would put norms where there are none.
  const bool is_gpt2 = config.rotary_dims == 0 && std::is_same_v<typename Model::Layout, PreNorm> &&
                       std::is_same_v<typename Model::Norm, LayerNorm> &&
                       std::is_same_v<typename Model::FinalNormPolicy, LayerNorm>;
  Json json = {{"model_type", is_gpt2 ? "gpt2" : "lnfree"},
               {"n_layer", config.layers},
               {"n_head", config.heads},
               {"n_embd", config.width},
               {"n_inner", config.ffn_width},
               {"n_positions", config.position_rows()},
               {"n_ctx", config.context},
               {"vocab_size", config.vocab_size},
               {"activation_function", Model::Activation::name},
               {"layer_norm_epsilon", LayerNorm::epsilon},
               {"tie_word_embeddings", config.tied_output},
               {"norm", Model::Norm::name},
               {"final_norm", Model::FinalNormPolicy::name},
               {"biases", biases},
               {"rotary_dims", config.rotary_dims},
               {"parallel_residual", std::is_same_v<typename Model::Layout, Parallel>},
               {"layout", Model::Layout::name},
               {"lnfree_version", LNFREE_VERSION}};
  // What the weights were trained for, where that is more than the loss.
  if (!std::is_same_v<typename Model::Objective, CrossEntropy<typename Model::Device>>)
    json["objective"] = Model::Objective::name;
  return json;
}

/// A parameter, or what else has its shape and lies at `values` on the device, for save_safetensors.
template <class Model>
NamedTensor named_tensor(Model& model, const Parameter<typename Model::Device>& parameter,
                         const typename Model::Accumulator* values, const std::string& prefix = "") {
  return {prefix + parameter.name, parameter.shape, [&model, &parameter, values] {
            std::vector<typename Model::Accumulator> host(static_cast<std::size_t>(parameter.size()));
            copy_to_host(model.device(), host.data(), values,
                         host.size() * sizeof(typename Model::Accumulator));
            return std::vector<float>(host.begin(), host.end());
          }};
}

/// Writes the weights.
template <class Model>
void save_weights(Model& model, const std::filesystem::path& path) {
  std::vector<NamedTensor> tensors;
  for (const auto& parameter : model.parameters().all())
    tensors.push_back(named_tensor(model, parameter, parameter.master));
  save_safetensors(path, tensors);
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
/// leaves the previous checkpoint whole. `state` becomes trainer.json; the optimizer's name and its update
/// count are added to it.
template <class Model, Optimizer<Model> O>
void save_checkpoint(const std::filesystem::path& folder, Model& model, const O& optimizer, Json state) {
  const std::filesystem::path target = checkpoint_place(folder);
  std::filesystem::path fresh = target;
  fresh += ".part";
  std::error_code error;
  std::filesystem::remove_all(fresh, error);
  std::filesystem::create_directories(fresh, error);
  if (error) throw Error("cannot create " + fresh.string() + ": " + error.message());
  try {
    save_weights(model, fresh / "model.safetensors");
    std::vector<NamedTensor> kept;
    optimizer.for_each_state([&](const std::string& name, const auto& parameter, const auto* values) {
      kept.push_back(named_tensor(model, parameter, values, name + "."));
    });
    save_safetensors(fresh / "optimizer.safetensors", kept);
    write_file(fresh / "config.json", config_json<Model>().dump(2) + "\n");
    state["optimizer"] = O::name;
    state["updates"] = optimizer.updates();
    write_file(fresh / "trainer.json", state.dump(2) + "\n");
    replace_checkpoint(fresh, target);
  } catch (...) {
    std::filesystem::remove_all(fresh, error);  // on a full disk others wait for the room
    throw;
  }
}

/// A JSON file of a checkpoint. Throws Error when there is none or it is damaged.
inline Json read_checkpoint_json(const std::filesystem::path& path) {
  std::ifstream in(path);
  if (!in) throw Error("there is no checkpoint to resume from: cannot read " + path.string());
  Json json = Json::parse(in, nullptr, false);
  if (!json.is_object()) throw Error(path.string() + " is damaged: it holds no JSON object");
  return json;
}

/// A count that a checkpoint's trainer.json must hold, up to `max`. Throws Error when it does not.
inline std::int64_t checkpoint_count(const std::filesystem::path& folder, const Json& state, const char* key,
                                     std::int64_t max = std::numeric_limits<std::int64_t>::max()) {
  const auto found = state.find(key);
  if (found == state.end() || !found->is_number_integer() || found->get<std::int64_t>() < 0 ||
      found->get<std::int64_t>() > max) {
    throw Error((folder / "trainer.json").string() + " is damaged: it holds no count of " + key +
                (max < std::numeric_limits<std::int64_t>::max() ? " up to " + std::to_string(max) : ""));
  }
  return found->get<std::int64_t>();
}

/// The trainer.json of a checkpoint. Throws Error when there is none or it is damaged.
inline Json read_checkpoint_state(const std::filesystem::path& folder) {
  return read_checkpoint_json(present_checkpoint(folder) / "trainer.json");
}

/// What the config.json in a folder says otherwise than the model is built, in words: two models may have the
/// same tensors and still compute something else, with another activation for one. Empty when all it says
/// agrees. What lnfree wrote must agree in every key. Keys that another program left out say nothing, the
/// size of its position table is for load_weights to judge, and keys that lnfree does not know may not ask
/// for anything.
template <class Model>
std::string architecture_difference(const std::filesystem::path& folder) {
  const Json saved = read_checkpoint_json(folder / "config.json");
  const bool is_own = saved.contains("lnfree_version");
  const auto differs = [&](const std::string& key, const Json& found, const std::string& otherwise) {
    return folder.string() + " is of another architecture than this program: its " + key + " is " +
           (found.is_null() ? "missing" : excerpt(found.dump())) + ", " + otherwise;
  };
  const Json all = config_json<Model>();
  Json expected = all;
  // The first is another with every version. The second follows from the rest, and was gpt2 for more once.
  // The third says what the weights were trained for, not what they compute; parameters of its own are
  // tensors.
  for (const char* key : {"lnfree_version", "model_type", "objective"}) expected.erase(key);
  if (!is_own) {
    for (const char* key : {"n_positions", "n_ctx"}) expected.erase(key);
  }
  // Earlier versions had two layouts, told apart by parallel_residual.
  if (!saved.contains("layout") &&
      (std::is_same_v<typename Model::Layout, PreNorm> || std::is_same_v<typename Model::Layout, Parallel>))
    expected.erase("layout");
  for (const auto& [key, value] : expected.items()) {
    Json found = saved.value(key, Json());
    if (key == "activation_function") found = canonical_activation(found);
    if (found == value || (!is_own && found.is_null())) continue;
    return differs(key, found, "expected " + value.dump());
  }
  for (const auto& [key, value] : saved.items()) {
    if (key == "model_type") {
      if (!value.is_null() && value != "gpt2" && value != "lnfree")
        return differs(key, value, "expected \"gpt2\" or \"lnfree\"");
    } else if (key == "scale_attn_weights") {
      if (!value.is_null() && value != true) return differs(key, value, "expected true");
    } else if (!all.contains(key) && key != "objective" && !changes_no_logits(key) &&
               !asks_for_nothing(value)) {
      return differs(key, value,
                     "which this program does not know; where it changes nothing of what the model computes, "
                     "remove it from config.json");
    }
  }
  return "";
}

/// Restores the weights from a checkpoint. Throws Error when it is of another architecture, naming the first
/// tensor or else the first key of config.json that differs; the model is then unchanged.
template <class Model>
void load_checkpoint(const std::filesystem::path& folder, Model& model) {
  const std::filesystem::path present = present_checkpoint(folder);
  const std::string difference = architecture_difference<Model>(present);
  if (!difference.empty()) throw Error(difference);
  load_weights(model, present / "model.safetensors");
}

/// The same, with the optimizer. Throws Error, too, when the checkpoint is of another optimizer.
template <class Model, Optimizer<Model> O>
void load_checkpoint(const std::filesystem::path& folder, Model& model, O& optimizer) {
  const Json state = read_checkpoint_state(folder);
  const std::int64_t updates = checkpoint_count(folder, state, "updates");
  // Earlier versions had AdamW alone and did not say so.
  const Json saved = state.value("optimizer", Json("adamw"));
  if (saved != O::name) {
    throw Error(folder.string() + " was made with the optimizer " + excerpt(saved.dump()) + ", not \"" +
                std::string(O::name) + "\"; resume with the same one");
  }
  // Before the tensors, whose differences another architecture explains.
  const std::string difference = architecture_difference<Model>(present_checkpoint(folder));
  if (!difference.empty()) throw Error(difference);
  const SafetensorsFile file = SafetensorsFile::open(present_checkpoint(folder) / "optimizer.safetensors");
  const auto stored = [&](const std::string& name, const auto& parameter) {
    const TensorInfo* tensor = file.find(name + "." + parameter.name);
    if (tensor == nullptr || tensor->shape != parameter.shape) {
      throw Error(file.path().string() + " does not belong to this program: tensor " + name + "." +
                  parameter.name + " is missing or of another shape");
    }
    return tensor;
  };
  optimizer.for_each_state(
      [&](const std::string& name, const auto& parameter, auto*) { stored(name, parameter); });
  load_checkpoint(folder, model);
  optimizer.for_each_state([&](const std::string& name, const auto& parameter, auto* values) {
    const std::vector<float> numbers = file.read(*stored(name, parameter));
    const std::vector<typename Model::Accumulator> converted(numbers.begin(), numbers.end());
    copy_to_device(model.device(), values, converted.data(),
                   converted.size() * sizeof(typename Model::Accumulator));
  });
  optimizer.set_updates(updates);
}

}  // namespace lnfree
