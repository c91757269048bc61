/// Converts the weights of a model between lnfree, Hugging Face's transformers and llm.c. Tensors are
/// renamed, transposed and written one at a time; no model is built.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <lnfree/checkpoint/architecture.hpp>
#include <lnfree/checkpoint/fold.hpp>
#include <lnfree/checkpoint/gpt_neox.hpp>
#include <lnfree/checkpoint/llm_c.hpp>
#include <lnfree/checkpoint/tensor_shapes.hpp>
#include <lnfree/checkpoint/weights.hpp>
#include <lnfree/core/files.hpp>
#include <lnfree/core/fingerprint.hpp>
#include <lnfree/core/parse_number.hpp>
#include <lnfree/train/shard_identity.hpp>

#include "command_line.hpp"
#include "configurations.hpp"
#include "modeling_lnfree.hpp"

using namespace lnfree;

namespace {

struct Options {
  std::filesystem::path from, to, tokenizer;
  std::string format = "lnfree", dtype = "float32", max_shard_size = "5GB";
  int context = 0;
  bool fold = false;

  std::string stored_type() const { return dtype == "float32" ? "F32" : "BF16"; }
};

/// A model that was read, with lnfree's names and tensor layout.
struct FoundModel {
  Architecture architecture;
  NamedTensors tensors;
  std::vector<std::string>
      of_objective;  ///< Names of tensors that belong to an objective; no logit depends on them.
};

/// The tensors of the model in `path`. Throws Error for a part that lnfree does not know.
std::vector<TensorShape> shapes_of(const Architecture& architecture, const std::filesystem::path& path) {
  try {
    return tensor_shapes<configurations::Policies>(architecture);
  } catch (const Error& error) {
    throw Error((model_folder(path) / "config.json").string() + ": " + error.what());
  }
}

/// Matches the tensors with the architecture. Throws Error naming the first that is missing, unexpected or of
/// another shape.
FoundModel checked(const std::filesystem::path& path, Architecture architecture,
                   std::vector<StoredTensor> stored) {
  FoundModel model{std::move(architecture), {}, {}};
  std::map<std::string, StoredTensor> left;
  for (StoredTensor& tensor : stored) {
    std::string name = tensor.name;
    left.emplace(std::move(name), std::move(tensor));
  }
  for (const auto& [name, shape] : shapes_of(model.architecture, path)) {
    const auto found = left.find(name);
    if (found == left.end()) {
      throw Error(path.string() + " lacks a tensor that its architecture has: " + name + ", expected " +
                  shape_text(shape));
    }
    StoredTensor& tensor = found->second;
    if (tensor.size() == 1 && size_of(shape) == 1) tensor.shape = shape;  // a scalar slope
    if (tensor.shape != shape) {
      throw Error(path.string() + ", tensor " + tensor.title() + ": it is " + shape_text(tensor.shape) +
                  ", but its architecture has " + shape_text(shape));
    }
    model.tensors.emplace(name, std::move(tensor));
    left.erase(found);
  }
  if (model.architecture.sizes.tied_output) left.erase("lm_head.weight");  // a copy
  for (auto& [name, tensor] : left) {
    if (model.architecture.objective.empty()) {
      throw Error(path.string() + " holds a tensor that its architecture does not have: " + tensor.title() +
                  " of " + shape_text(tensor.shape));
    }
    model.of_objective.push_back(name);
    model.tensors.emplace(name, std::move(tensor));
  }
  return model;
}

FoundModel read_model(const std::filesystem::path& path) {
  if (!is_folder(path)) {
    if (llm_c::is_model_file(path)) {
      auto model = llm_c::read_model(path);
      return checked(path, std::move(model.architecture), std::move(model.tensors));
    }
    if (path.extension() != ".safetensors" && path.extension() != ".json" &&
        !path.filename().string().starts_with("pytorch_model")) {
      throw Error(
          path.string() +
          " is not a model: expected a folder, a .safetensors file, a model.safetensors.index.json or a "
          "model file of llm.c");
    }
  }
  const std::filesystem::path present = is_folder(path) ? present_checkpoint(path) : path;
  Architecture architecture = read_architecture(model_folder(present));
  std::vector<StoredTensor> tensors = read_weights(present, architecture.sizes.heads);
  return checked(present, std::move(architecture), std::move(tensors));
}

/// Sets the context length.
void set_context(FoundModel& model, int context) {
  DecoderConfig& sizes = model.architecture.sizes;
  if (context > sizes.position_rows()) {
    throw Error("--context " + std::to_string(context) + " is more than the " +
                std::to_string(sizes.position_rows()) + " positions of the model");
  }
  sizes.positions = sizes.rotary_dims > 0 || context == sizes.position_rows() ? 0 : sizes.position_rows();
  sizes.context = context;
}

/// Drops the rows of the position table beyond the context, which lnfree never reads: other programs assume
/// that every row was trained.
void trim_positions(FoundModel& model) {
  DecoderConfig& sizes = model.architecture.sizes;
  sizes.positions = 0;
  const auto found = model.tensors.find("wpe.weight");
  if (found == model.tensors.end() || found->second.shape[0] == sizes.context) return;
  NamedTensor& table = found->second;
  table.shape[0] = sizes.context;
  table.data = [whole = table.data, size = static_cast<std::size_t>(table.size())] {
    std::vector<float> values = whole();
    values.resize(size);
    return values;
  };
}

/// Adds zero biases where the model has none, for programs that require them.
void add_zero_biases(FoundModel& model) {
  model.architecture.sizes.biases = Biases::all;
  for (const auto& [name, shape] : tensor_shapes<configurations::Policies>(model.architecture)) {
    if (model.tensors.contains(name)) continue;
    const auto size = static_cast<std::size_t>(size_of(shape));
    model.tensors.emplace(name, NamedTensor{name, shape, [size] { return std::vector<float>(size); }});
  }
}

/// Drops the parameters of an objective.
void drop_objective(FoundModel& model) {
  for (const std::string& name : model.of_objective) model.tensors.erase(name);
  model.of_objective.clear();
  model.architecture.objective.clear();
}

/// Folds removed norms into the matrices.
void fold(FoundModel& model, const std::filesystem::path& path) {
  drop_objective(model);
  try {
    fold_norms(model.architecture, model.tensors);
  } catch (const Error& error) {
    throw Error(path.string() + ": " + error.what());
  }
}

/// The tensors in the order of the architecture, those of an objective at the end.
std::vector<NamedTensor> in_order(const FoundModel& model) {
  std::vector<NamedTensor> result;
  for (const auto& [name, shape] : tensor_shapes<configurations::Policies>(model.architecture))
    result.push_back(model.tensors.at(name));
  for (const std::string& name : model.of_objective) result.push_back(model.tensors.at(name));
  return result;
}

/// The number of bytes that a text such as "5GB" or "300MB" means, in powers of 1000 as transformers reads
/// it; 0 for another text.
std::uint64_t bytes_of(std::string_view text) {
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

/// Writes model.safetensors, or several files of at most that many bytes and an index of their tensors. A
/// tensor is never split.
void write_shards(const std::filesystem::path& folder, const std::vector<NamedTensor>& tensors,
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

void write_config(const std::filesystem::path& folder, const Json& config) {
  write_file(folder / "config.json", config.dump(2) + "\n");
}

/// Writes a Hugging Face GPT-2 that computes the same.
void write_gpt2(const std::filesystem::path& folder, FoundModel model, const Options& options) {
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
double rotary_share(const DecoderConfig& sizes) {
  const double share = static_cast<double>(sizes.rotary_dims) / sizes.head_dim();
  return static_cast<int>(sizes.head_dim() * share) == sizes.rotary_dims ? share : std::nextafter(share, 1.0);
}

/// Writes a Hugging Face GPT-NeoX that computes the same.
void write_gpt_neox(const std::filesystem::path& folder, FoundModel model, const Options& options) {
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
void write_remote_code(const std::filesystem::path& folder, const FoundModel& model, const Options& options) {
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
bool is_gpt_neox(const Architecture& architecture) {
  return architecture.sizes.rotary_dims > 0 && architecture.norm == LayerNorm::name &&
         architecture.final_norm == LayerNorm::name &&
         (architecture.layout == Parallel::name || architecture.layout == PreNorm::name);
}

/// Writes the model for transformers; returns the name of the class that reads it.
std::string write_hugging_face(const std::filesystem::path& folder, FoundModel model,
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

void write_lnfree(const std::filesystem::path& folder, const FoundModel& model, const Options& options) {
  const Architecture& architecture = model.architecture;
  const bool has_layer_norm =
      architecture.norm == LayerNorm::name || architecture.final_norm == LayerNorm::name;
  if (has_layer_norm && architecture.layer_norm_epsilon != LayerNorm::epsilon) {
    throw Error(options.from.string() + " has a layer_norm_epsilon of " +
                Json(architecture.layer_norm_epsilon).dump() + ", and lnfree's LayerNorm has " +
                Json(LayerNorm::epsilon).dump() + "; no program of lnfree computes this model");
  }
  save_safetensors(folder / "model.safetensors", in_order(model), options.stored_type());
  write_config(folder, to_json(architecture));
}

void write_llm_c(FoundModel model, const Options& options) {
  const std::string difference = llm_c::difference(model.architecture);
  if (!difference.empty())
    throw Error(options.from.string() + " is not a model that llm.c can compute: " + difference);
  drop_objective(model);
  trim_positions(model);
  add_zero_biases(model);
  llm_c::write_model(options.to, model.architecture.sizes, model.tensors, options.stored_type());
}

/// The tokenizer's file that goes with a model.
struct TokenizerFile {
  std::filesystem::path path;
  bool is_json;

  const char* name() const { return is_json ? "tokenizer.json" : "tokenizer.model"; }
};

/// The tokenizer given by --tokenizer, or else the one beside the weights, if any. Throws Error if
/// --tokenizer cannot be the model's tokenizer.
std::optional<TokenizerFile> find_tokenizer(const Options& options, const Architecture& architecture) {
  const std::filesystem::path& path = options.tokenizer;
  if (path.empty()) {
    for (const bool is_json : {true, false}) {
      TokenizerFile beside{model_folder(options.from), is_json};
      beside.path /= beside.name();
      if (is_file(beside.path)) return beside;
    }
    return std::nullopt;
  }
  const std::string content = read_text(path, "a tokenizer.json or tokenizer.model");
  const auto start = content.find_first_not_of(" \t\r\n");
  const bool is_json = path.extension() == ".json" || (start != content.npos && content[start] == '{');
  if (is_json) {
    const Json json = parse_json(content);
    const Json model = json.is_object() ? json.value("model", Json()) : Json();
    const Json tokens = model.is_object() ? model.value("vocab", Json()) : Json();
    if (!tokens.is_object() || tokens.empty()) throw Error(path.string() + " is not a tokenizer.json");
    if (tokens.size() > static_cast<std::size_t>(architecture.sizes.vocab_size)) {
      throw Error(path.string() + " has " + std::to_string(tokens.size()) +
                  " tokens, more than the model's " + std::to_string(architecture.sizes.vocab_size) +
                  "; give the tokenizer of the model's corpus");
    }
  }
  // SentencePiece's file begins with a piece, and that with its text, each behind a tag and a length.
  if (!is_json && !(content.size() > 2 && content[0] == '\n' && content[2] == '\n'))
    throw Error(path.string() + " is neither a tokenizer.json nor a tokenizer.model");
  const std::filesystem::path trainer = model_folder(options.from) / "trainer.json";
  if (path_exists(trainer)) {
    const ShardIdentity trained = saved_identity(read_json_object(trainer), "train");
    if (tokenizers_differ(trained, {path.string(), "", fingerprint(content), 0}))
      throw Error(path.string() + " is not the tokenizer of " + tokenizer_text(trained) + ", on which " +
                  options.from.string() + " was trained; give the tokenizer of that corpus");
  }
  return TokenizerFile{path, is_json};
}

/// Copies the tokenizer, with the files that transformers keeps beside it. For transformers, writes a
/// tokenizer_config.json if there is none. Returns a remark for the program's output.
std::string write_tokenizer(const std::filesystem::path& folder, const TokenizerFile& tokenizer,
                            bool for_transformers, int context) {
  const auto copy = [&](const std::filesystem::path& from, const char* name) {
    write_file(folder / name, read_text(from, name));
  };
  copy(tokenizer.path, tokenizer.name());
  for (const char* name : {"tokenizer_config.json", "special_tokens_map.json"}) {
    const auto beside = tokenizer.path.parent_path() / name;
    if (is_file(beside)) copy(beside, name);
  }
  const std::string copied = std::string("; ") + tokenizer.name() + " was copied";
  if (!for_transformers || path_exists(folder / "tokenizer_config.json")) return copied;
  Json config{{"model_max_length", context}, {"clean_up_tokenization_spaces", false}};
  if (tokenizer.is_json) {
    config["tokenizer_class"] = "PreTrainedTokenizerFast";
  } else {
    config.update({{"tokenizer_class", "LlamaTokenizer"},
                   {"legacy", false},
                   {"add_bos_token", false},
                   {"add_eos_token", false},
                   {"add_prefix_space", false},
                   {"bos_token", nullptr},
                   {"eos_token", nullptr},
                   {"unk_token", "<unk>"}});
  }
  write_file(folder / "tokenizer_config.json", config.dump(2) + "\n");
  return copied + (tokenizer.is_json
                       ? ""
                       : ", which transformers 5 opens as a LlamaTokenizer, with the same tokens except in "
                         "texts that contain <unk> or U+2581");
}

/// Throws Error if `path` exists and would be overwritten.
void check_free(const std::filesystem::path& path, bool needs_folder) {
  if (!path_exists(path)) return;
  const bool is_there_a_folder = is_folder(path);
  if (needs_folder && !is_there_a_folder)
    throw Error(path.string() + " is not a folder; --to takes the name of a new folder");
  if (!needs_folder && is_there_a_folder)
    throw Error(path.string() + " is a folder; with --format llmc --to takes the name of a new file");
  if (needs_folder && std::filesystem::equivalent(path, "."))
    throw Error(path.string() + " is the current folder; --to takes the name of a new folder");
  if (needs_folder ? !std::filesystem::is_empty(path) : is_file(path) && std::filesystem::file_size(path) > 0)
    throw Error(path.string() + " exists and is not empty; remove it or give --to another name");
}

/// Thrown when a signal has asked the program to stop.
struct Stopped {};

/// Lets a signal stop the program between two tensors, so that it leaves nothing behind.
void heed_signals(FoundModel& model) {
  signals::catch_stop();
  for (auto& [name, tensor] : model.tensors) {
    tensor.data = [data = std::move(tensor.data)] {
      if (signals::stop_signal != 0) throw Stopped();
      return data();
    };
  }
}

void run(const Options& options) {
  const bool to_file = options.format == "llmc";
  check_free(options.to, !to_file);
  FoundModel model = read_model(options.from);
  if (options.context > 0) set_context(model, options.context);
  if (options.fold) fold(model, options.from);
  std::optional<TokenizerFile> tokenizer;
  if (!to_file) tokenizer = find_tokenizer(options, model.architecture);
  const DecoderConfig sizes = model.architecture.sizes;
  std::int64_t numbers = 0;
  for (const auto& [name, tensor] : model.tensors) numbers += tensor.size();
  heed_signals(model);
  std::string reader, of_tokenizer;
  if (to_file) {
    write_llm_c(std::move(model), options);
    reader = "llm.c";
  } else {
    write_checkpoint(options.to, [&](const std::filesystem::path& fresh) {
      if (options.format == "hf") {
        reader = "transformers: " + write_hugging_face(fresh, std::move(model), options);
      } else {
        write_lnfree(fresh, model, options);
        reader = "lnfree";
      }
      if (tokenizer) of_tokenizer = write_tokenizer(fresh, *tokenizer, options.format == "hf", sizes.context);
    });
  }
  std::printf("%s: %d layers of width %d, %lld numbers as %s, for %s%s\n", options.to.c_str(), sizes.layers,
              sizes.width, static_cast<long long>(numbers), options.dtype.c_str(), reader.c_str(),
              of_tokenizer.c_str());
}

}  // namespace

int main(int argc, char** argv) {
  CommandLine app(
      "Converts the weights of a model between lnfree, Hugging Face's transformers (GPT-2, GPT-NeoX, and "
      "with code of its own any model of lnfree's) and llm.c. Numbers stay what they are, bit for bit, "
      "unless --dtype rounds them.",
      argv);
  Options options;
  app.add_value("--from", options.from, "PATH",
                "The model: a checkpoint/ of lnfree, a folder of transformers' GPT-2 or GPT-NeoX, a "
                ".safetensors file or an index with config.json beside it, or a model file of llm.c")
      ->required();
  app.add_value("--to", options.to, "PATH", "A new folder; with --format llmc, a new file")->required();
  app.add_value("--tokenizer", options.tokenizer, "FILE",
                "tokenizer.json or tokenizer.model of the model's corpus, to be copied; by default the one "
                "beside the weights, if any");
  const auto one_of = [&](const char* name, std::string& value, std::vector<std::string> values,
                          const char* text) {
    app.add_option(name, value, text)
        ->capture_default_str()
        ->type_name("NAME")
        ->check([name = std::string(name), values](const std::string& given) -> std::string {
          if (std::find(values.begin(), values.end(), given) != values.end()) return "";
          std::string all;
          for (std::size_t i = 0; i < values.size(); ++i)
            all += (i == 0 ? "" : i + 1 == values.size() ? " or " : ", ") + values[i];
          return given + " was given, expected " + all;
        });
  };
  one_of(
      "--format", options.format, {"lnfree", "hf", "llmc"},
      "lnfree: model.safetensors and config.json; hf: a folder that transformers loads; llmc: a model file "
      "of llm.c, for a GPT-2 with gelu_new");
  one_of("--dtype", options.dtype, {"float32", "bfloat16"},
         "How numbers are stored. float32 keeps float32, float16 and bfloat16 exactly; bfloat16 rounds to "
         "8 significant bits, to nearest, ties to even");
  app.add_option("--max-shard-size", options.max_shard_size,
                 "With --format hf: several files where the weights are more, such as 500MB")
      ->capture_default_str()
      ->type_name("SIZE")
      ->check([](const std::string& text) {
        return bytes_of(text) > 0 ? "" : text + " is not a size such as 500MB or 5GB";
      });
  app.add_count("--context", options.context, 0,
                "Windows of at most N tokens from now on; 0: the model's own");
  app.add_flag("--fold", options.fold,
               "Fold norms that training has removed into the next matrices: a model without norms");
  app.callback([&] {
    if (!options.tokenizer.empty() && options.format == "llmc")
      throw CLI::ValidationError(
          "--tokenizer cannot be used with --format llmc, whose files hold no tokenizer");
  });
  if (const auto status = app.read(argc, argv)) return *status;
  try {
    run(options);
  } catch (const Stopped&) {
    const int number = signals::stop_signal;
    complain("convert", "stopped by signal " + std::to_string(number) + "; nothing was written");
    return 128 + number;
  } catch (const std::exception& error) {
    return complain("convert", sentence_about(error));
  }
}
