#include "lnfree/train/checkpoint.hpp"

#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "train/support.hpp"

using namespace lnfree;
using namespace lnfree::test;

namespace {

using Shape = std::vector<Index>;

constexpr Index C = tiny.width, F = tiny.ffn_width;

/// The tensors of a Hugging Face GPT-2 of the tiny shape with the paper's layout.
std::map<std::string, Shape> expected_tensors(bool norms, bool final_norm) {
  std::map<std::string, Shape> shapes{{"wte.weight", {tiny.vocab_size, C}},
                                      {"wpe.weight", {tiny.positions, C}}};
  for (int l = 0; l < tiny.layers; ++l) {
    const std::string h = "h." + std::to_string(l) + ".";
    shapes[h + "attn.c_attn.weight"] = {C, 3 * C};
    shapes[h + "attn.c_attn.bias"] = {3 * C};
    shapes[h + "attn.c_proj.weight"] = {C, C};
    shapes[h + "mlp.c_fc.weight"] = {C, F};
    shapes[h + "mlp.c_proj.weight"] = {F, C};
    if (norms) {
      for (const char* name : {"ln_1.weight", "ln_1.bias", "ln_2.weight", "ln_2.bias"})
        shapes[h + name] = {C};
    }
  }
  if (final_norm) shapes["ln_f.weight"] = shapes["ln_f.bias"] = {C};
  return shapes;
}

template <class Model>
std::map<std::string, Shape> written_tensors(const TemporaryFolder& folder) {
  Model model(1);
  model.initialize(5);
  save_weights(model, folder / "model.safetensors");
  std::map<std::string, Shape> shapes;
  const auto file = SafetensorsFile::open(folder / "model.safetensors");
  for (const TensorInfo& tensor : file.tensors()) shapes[tensor.name] = tensor.shape;
  return shapes;
}

/// The tensors of a file, to be changed and written again.
std::vector<NamedTensor> tensors_of(const std::filesystem::path& path) {
  std::vector<NamedTensor> tensors;
  const auto file = SafetensorsFile::open(path);
  for (const TensorInfo& tensor : file.tensors())
    tensors.push_back({tensor.name, tensor.shape, [values = file.read(tensor)] { return values; }});
  return tensors;
}

NamedTensor filled(const std::string& name, Shape shape, float value) {
  Index size = 1;
  for (const Index extent : shape) size *= extent;
  return {name, std::move(shape), [=] { return std::vector<float>(static_cast<std::size_t>(size), value); }};
}

NamedTensor& named(std::vector<NamedTensor>& tensors, const std::string& name) {
  for (NamedTensor& tensor : tensors) {
    if (tensor.name == name) return tensor;
  }
  throw std::runtime_error("no tensor " + name);
}

using Plain = TinyModel<Identity, GELU>;
using Normed = TinyModel<LayerNorm, GELU>;

/// model.safetensors of a Plain with seed 5, and a way to check that a changed one is refused.
struct Weights {
  Weights() : model(1) {
    model.initialize(5);
    path = folder / "model.safetensors";
    save_weights(model, path);
    tensors = tensors_of(path);
  }

  template <class... Words>
  void check_refused(Words... words) {
    save_safetensors(path, tensors);
    Plain other(1);
    other.initialize(6);
    const auto before = weights(other);
    BOOST_CHECK_EXCEPTION(load_weights(other, path), Error,
                          says("model.safetensors", "another architecture", words...));
    BOOST_TEST((weights(other) == before));
  }

  /// Calls a tensor of the file another type than F32, in as many bytes.
  void retype(const std::string& name, const std::string& type) {
    std::string bytes = read_file(path);
    const std::string written = "\"F32\"";
    std::string put = "\"" + type + "\"";
    put.resize(written.size(), ' ');
    bytes.replace(bytes.find(written, bytes.find("\"" + name + "\"")), put.size(), put);
    folder.write(path.filename(), bytes);
  }

  void check_loads() {
    save_safetensors(path, tensors);
    check_loads_from_file();
  }

  void check_loads_from_file() {
    Plain other(1);
    other.initialize(6);
    load_weights(other, path);
    BOOST_TEST((weights(other) == weights(model)));
  }

  TemporaryFolder folder;
  Plain model;
  std::filesystem::path path;
  std::vector<NamedTensor> tensors;
};

}  // namespace

BOOST_AUTO_TEST_SUITE(checkpoint)

BOOST_AUTO_TEST_CASE(tensors_have_the_names_and_shapes_of_gpt2) {
  TemporaryFolder folder;
  BOOST_TEST((written_tensors<TinyModel<LayerNorm, GELU>>(folder) == expected_tensors(true, true)));
  BOOST_TEST((written_tensors<TinyModel<Identity, ReLU>>(folder) == expected_tensors(false, true)));
  BOOST_TEST(
      (written_tensors<TinyModel<Identity, ReLU, clean(tiny)>>(folder) == expected_tensors(false, false)));

  auto per_layer = expected_tensors(false, true), global = per_layer;
  per_layer["h.0.mlp.act.slope"] = per_layer["h.1.mlp.act.slope"] = global["act.slope"] = {1};
  BOOST_TEST((written_tensors<TinyModel<Identity, LeakyLearnable<Scope::per_layer>>>(folder) == per_layer));
  BOOST_TEST((written_tensors<TinyModel<Identity, LeakyLearnable<Scope::global>>>(folder) == global));
}

BOOST_AUTO_TEST_CASE(the_value_bias_stays_zero) {
  TemporaryFolder folder;
  Plain model(1);
  model.initialize(5);
  AdamW<Plain> optimizer(model);
  const std::vector<std::int32_t> tokens{1, 2, 3, 4}, targets{2, 3, 4, -1};
  for (int i = 0; i < 3; ++i) {
    model.forward_backward({{1, 4}, tokens, targets});
    optimizer.step(1e-2);
  }
  save_weights(model, folder / "a.safetensors");
  const auto bias = SafetensorsFile::open(folder / "a.safetensors").read("h.0.attn.c_attn.bias");
  BOOST_TEST(std::count(bias.begin(), bias.begin() + C, 0.f) == 0);  // queries learn
  BOOST_TEST(std::count(bias.begin() + 2 * C, bias.end(), 0.f) == C);
}

BOOST_AUTO_TEST_CASE(config_json_describes_the_model) {
  const Json expected = {{"model_type", "lnfree"},
                         {"n_layer", 2},
                         {"n_head", 3},
                         {"n_embd", 15},
                         {"n_inner", 44},
                         {"n_positions", 11},
                         {"n_ctx", 9},
                         {"vocab_size", 37},
                         {"activation_function", "gelu"},
                         {"layer_norm_epsilon", 1e-5},
                         {"tie_word_embeddings", true},
                         {"norm", "identity"},
                         {"final_norm", "layer_norm"},
                         {"biases", "query_key"},
                         {"rotary_dims", 0},
                         {"parallel_residual", false},
                         {"layout", "pre_norm"},
                         {"lnfree_version", LNFREE_VERSION}};
  BOOST_TEST(config_json<Plain>().dump() == expected.dump());
  const Json normed = config_json<TinyModel<LayerNorm, ReLU, clean(tiny)>>();
  BOOST_TEST(normed["model_type"] == "gpt2");
  BOOST_TEST(normed["norm"] == "layer_norm");
  BOOST_TEST(normed["activation_function"] == "relu");
  // What Hugging Face's GPT-2 would compute something else from is not called one.
  constexpr DecoderConfig turned = [] {
    DecoderConfig config = tiny;
    config.rotary_dims = 4;
    return config;
  }();
  BOOST_TEST((config_json<TinyModel<LayerNorm, ReLU, turned>>()["model_type"]) == "lnfree");
}

BOOST_AUTO_TEST_CASE(files_of_others_are_read) {
  Weights file;
  file.check_loads();
  for (NamedTensor& tensor : file.tensors) tensor.name = "transformer." + tensor.name;
  file.tensors.push_back(filled("transformer.h.0.attn.bias", {1, 1, 9, 9}, 1));
  file.tensors.push_back(filled("h.1.attn.masked_bias", {}, -10000));
  file.tensors.push_back(filled("lm_head.weight", {tiny.vocab_size, C}, 3));
  file.check_loads();
  // Masks are stored as numbers that no weight has.
  file.retype("transformer.h.0.attn.bias", "U8");
  file.check_loads_from_file();
  file.retype("transformer.h.1.mlp.c_fc.weight", "I8");
  Plain other(1);
  other.initialize(6);
  const auto before = weights(other);
  BOOST_CHECK_EXCEPTION(load_weights(other, file.path), Error,
                        says("h.1.mlp.c_fc.weight", "dtype I8", "cannot be read"));
  BOOST_TEST((weights(other) == before));
}

BOOST_AUTO_TEST_CASE(a_config_of_others_may_say_less_but_nothing_else) {
  TemporaryFolder folder;
  const auto difference = [&](const Json& config) {
    folder.write("config.json", config.dump());
    return architecture_difference<Plain>(folder.path());
  };
  const Json own = config_json<Plain>();
  BOOST_TEST(difference(own) == "");
  BOOST_TEST(difference(Json::object()) == "");
  Json earlier = own;
  earlier["model_type"] = "gpt2";
  earlier.erase("layout");
  BOOST_TEST(difference(earlier) == "");
  for (const char* key : {"n_ctx", "norm", "biases"}) {
    Json incomplete = own;
    incomplete.erase(key);
    BOOST_TEST(says("its " + std::string(key) + " is missing")(Error(difference(incomplete))));
  }
  BOOST_TEST(
      difference({{"model_type", "gpt2"}, {"n_inner", nullptr}, {"n_positions", 1024}, {"n_ctx", 1024}}) ==
      "");
  for (const auto& [key, value] : {std::pair{"activation_function", "relu"}, {"norm", "layer_norm"}}) {
    Json other = own;
    other[key] = value;
    BOOST_TEST(says(key, value)(Error(difference(other))));
  }
  BOOST_CHECK_EXCEPTION(architecture_difference<Plain>(folder / "none"), Error, says("config.json"));
}

// The configs of gpt2, distilgpt2 and DialoGPT with what transformers 4 and 5 add on saving, sizes left out.
BOOST_AUTO_TEST_CASE(a_config_that_asks_for_another_model_is_refused_by_name) {
  TemporaryFolder folder;
  using Model = TinyModel<LayerNorm, GELUTanh>;
  const Json ordinary = Json::parse(R"({
    "_name_or_path": "gpt2", "_num_labels": 1, "_attn_implementation_autoset": true, "_commit_hash": "e7da7f2",
    "activation_function": "gelu_new", "add_cross_attention": false, "architectures": ["GPT2LMHeadModel"],
    "attn_pdrop": 0.1, "bad_words_ids": null, "begin_suppress_tokens": null, "bos_token_id": 50256,
    "chunk_size_feed_forward": 0, "cross_attention_hidden_size": null, "decoder_start_token_id": null,
    "diversity_penalty": 0.0, "do_sample": true, "dtype": "float32", "early_stopping": false,
    "embd_pdrop": 0.1, "encoder_no_repeat_ngram_size": 0, "eos_token_id": 50256,
    "exponential_decay_length_penalty": null, "finetuning_task": null, "gradient_checkpointing": false,
    "id2label": {"0": "LABEL_0"}, "initializer_range": 0.02, "is_decoder": false, "is_encoder_decoder": false,
    "label2id": {"LABEL_0": 0}, "layer_norm_epsilon": 1e-05, "length_penalty": 1.0, "max_length": 50,
    "model_type": "gpt2", "n_ctx": 1024, "n_inner": null, "n_positions": 1024, "num_beams": 1,
    "output_attentions": false, "output_past": true, "pad_token_id": 50256, "prefix": null,
    "pruned_heads": {}, "reorder_and_upcast_attn": true, "repetition_penalty": 1.0, "resid_pdrop": 0.1,
    "return_dict": true, "scale_attn_by_inverse_layer_idx": false, "scale_attn_weights": true,
    "summary_activation": null, "summary_first_dropout": 0.1, "summary_proj_to_labels": true,
    "summary_type": "cls_index", "summary_use_proj": true,
    "task_specific_params": {"conversational": {"max_length": 1000}}, "temperature": 1.0,
    "tie_encoder_decoder": false, "tie_word_embeddings": true, "tokenizer_class": null, "top_k": 50,
    "top_p": 1.0, "torch_dtype": "float32", "torchscript": false, "transformers_version": "4.57.0",
    "typical_p": 1.0, "use_bfloat16": false, "use_cache": true, "a_key_of_tomorrow": null})");
  const auto difference = [&](const Json& config) {
    folder.write("config.json", config.dump());
    return architecture_difference<Model>(folder.path());
  };
  BOOST_TEST(difference(ordinary) == "");
  Json saved_again = config_json<Model>();  // a checkpoint of lnfree that transformers loaded and saved
  saved_again.update(ordinary);
  for (const char* key : {"n_positions", "n_ctx", "n_inner"}) saved_again[key] = config_json<Model>()[key];
  BOOST_TEST(difference(saved_again) == "");
  for (const char* name : {"gelu_pytorch_tanh", "gelu_fast"}) {
    Json renamed = ordinary;
    renamed["activation_function"] = name;
    BOOST_TEST(difference(renamed) == "");
  }
  const std::vector<std::pair<std::string, Json>> others{{"scale_attn_by_inverse_layer_idx", true},
                                                         {"scale_attn_weights", false},
                                                         {"add_cross_attention", true},
                                                         {"tie_word_embeddings", false},
                                                         {"n_inner", 45},
                                                         {"n_layer", 3},
                                                         {"activation_function", "gelu"},
                                                         {"layer_norm_epsilon", 1e-6},
                                                         {"model_type", "gpt_neo"},
                                                         {"model_type", 3},
                                                         {"pruned_heads", {{"0", {1}}}},
                                                         {"num_key_value_heads", 1},
                                                         {"rope_theta", 10000.0},
                                                         {"rope_scaling", {{"type", "linear"}}},
                                                         {"quantization_config", {{"bits", 8}}},
                                                         {"sliding_window", 4},
                                                         {"a_key_of_tomorrow", "on"}};
  for (const auto& [key, value] : others) {
    for (const Json& config : {ordinary, saved_again}) {
      Json other = config;
      other[key] = value;
      BOOST_TEST(says("another architecture", "its " + key + " is " + value.dump())(Error(difference(other))),
                 key << ": " << difference(other));
    }
  }
}

BOOST_AUTO_TEST_CASE(a_model_for_evaluation_takes_the_weights_of_a_checkpoint) {
  TemporaryFolder folder;
  Plain model(1);
  model.initialize(5);
  save_checkpoint(folder / "c", model, AdamW<Plain>(model), {});
  Plain reader(1, Purpose::evaluation);
  BOOST_CHECK_EXCEPTION(AdamW<Plain>{reader}, Error, says("AdamW", "Purpose::training"));
  load_checkpoint(folder / "c", reader);
  BOOST_TEST((weights(reader) == weights(model)));
  TinyModel<Identity, ReLU> relu(1);
  const auto before = weights(relu);
  BOOST_CHECK_EXCEPTION(load_checkpoint(folder / "c", relu), Error, says("activation_function", "gelu"));
  BOOST_TEST((weights(relu) == before));
}

BOOST_AUTO_TEST_CASE(positions_beyond_the_context_do_not_matter) {
  Weights file;
  NamedTensor& positions = named(file.tensors, "wpe.weight");
  const std::vector<float> table = positions.data();
  for (const Index rows : {Index{9}, Index{10}, Index{1024}}) {
    std::vector<float> values = table;
    values.resize(static_cast<std::size_t>(rows * C), 8);
    positions.shape = {rows, C};
    positions.data = [=] { return values; };
    save_safetensors(file.path, file.tensors);
    Plain other(1);
    other.initialize(6);
    load_weights(other, file.path);
    const std::vector<std::int32_t> tokens{1, 2, 3, 4, 5, 6, 7, 8, 9};
    BOOST_TEST((other.next_logits(tokens) == file.model.next_logits(tokens)));
  }
  positions.shape = {8, C};
  positions.data = [] { return std::vector<float>(8 * C); };
  file.check_refused("wpe.weight", "[8, 15]", "expected [11, 15]");
}

BOOST_AUTO_TEST_CASE(another_architecture_is_refused_by_the_first_tensor_that_differs) {
  Weights file;
  const auto whole = file.tensors;
  named(file.tensors, "wte.weight") = filled("wte.weight", {38, C}, 0);
  named(file.tensors, "h.1.mlp.c_fc.weight").shape = {F, C};
  file.check_refused("tensor wte.weight", "[38, 15]", "[37, 15]");

  file.tensors = whole;
  named(file.tensors, "h.1.mlp.c_fc.weight").shape = {F, C};
  file.check_refused("tensor h.1.mlp.c_fc.weight", "[44, 15]", "[15, 44]");

  file.tensors = whole;
  named(file.tensors, "h.0.attn.c_proj.weight").name = "h.0.attn.other";
  file.check_refused("tensor h.0.attn.c_proj.weight", "missing");

  file.tensors = whole;
  file.tensors.push_back(filled("h.0.mlp.c_fc.bias", {F}, 0));
  file.check_refused("tensor h.0.mlp.c_fc.bias", "no counterpart");

  Normed normed(1);
  normed.initialize(5);
  save_weights(normed, file.path);
  file.tensors = tensors_of(file.path);
  file.check_refused("tensor h.0.ln_1");
  save_safetensors(file.path, whole);
  BOOST_CHECK_EXCEPTION(load_weights(normed, file.path), Error, says("tensor h.0.ln_1.weight", "missing"));
}

BOOST_AUTO_TEST_CASE(a_bias_of_the_values_is_refused) {
  Weights file;
  NamedTensor& bias = named(file.tensors, "h.1.attn.c_attn.bias");
  auto values = bias.data();
  values.back() = 1e-30f;
  bias.data = [=] { return values; };
  file.check_refused("tensor h.1.attn.c_attn.bias", "bias for the values");
  values.back() = 0;
  values[2 * C] = std::numeric_limits<float>::quiet_NaN();
  bias.data = [=] { return values; };
  file.check_refused("tensor h.1.attn.c_attn.bias");
}

BOOST_AUTO_TEST_CASE(a_checkpoint_restores_model_and_optimizer) {
  TemporaryFolder folder;
  Plain model(1), other(1);
  model.initialize(5);
  AdamW<Plain> optimizer(model), restored(other);
  const std::vector<std::int32_t> tokens{1, 2, 3, 4}, targets{2, 3, 4, -1};
  const Batch batch{{1, 4}, tokens, targets};
  const auto step = [&](Plain& m, AdamW<Plain>& o) {
    m.forward_backward(batch);
    return o.step(1e-2);
  };
  for (int i = 0; i < 3; ++i) step(model, optimizer);
  save_checkpoint(folder / "c/", model, optimizer, {{"step", 3}});
  load_checkpoint(folder / "c", other, restored);
  BOOST_TEST(restored.updates() == 3);
  BOOST_TEST((weights(other) == weights(model)));
  for (int i = 0; i < 3; ++i) BOOST_TEST(step(model, optimizer) == step(other, restored));
  BOOST_TEST((weights(other) == weights(model)));
  BOOST_TEST(read_checkpoint_state(folder / "c")["step"] == 3);
}

BOOST_AUTO_TEST_CASE(a_checkpoint_replaces_the_last_one_and_leaves_nothing_else) {
  TemporaryFolder folder;
  Plain model(1);
  AdamW<Plain> optimizer(model);
  folder.write("c.part/left-over", "by a killed process");
  for (int step = 0; step < 2; ++step) {
    save_checkpoint(folder / "c", model, optimizer, {{"step", step}});
    BOOST_TEST(read_checkpoint_state(folder / "c")["step"] == step);
    BOOST_TEST(std::distance(std::filesystem::directory_iterator(folder.path()), {}) == 1);
    BOOST_TEST(std::distance(std::filesystem::directory_iterator(folder / "c"), {}) == 4);
  }
}

// What a process leaves that dies while it saves on a file system that cannot exchange two folders.
BOOST_AUTO_TEST_CASE(a_checkpoint_that_was_being_replaced_is_found) {
  TemporaryFolder folder;
  Plain model(1);
  AdamW<Plain> optimizer(model);
  const auto names = [&] {
    std::vector<std::string> all;
    for (const auto& entry : std::filesystem::directory_iterator(folder.path()))
      all.push_back(entry.path().filename());
    std::sort(all.begin(), all.end());
    return all;
  };
  const auto leave = [&](int next) {
    save_checkpoint(folder / "c.next", model, optimizer, {{"step", next}});
    std::filesystem::rename(folder / "c", folder / "aside");
    std::filesystem::create_directory(folder / "c");
    std::filesystem::rename(folder / "aside/model.safetensors", folder / "c/model.safetensors");
    std::filesystem::remove_all(folder / "aside");
  };
  save_checkpoint(folder / "c", model, optimizer, {{"step", 1}});
  leave(2);
  // Reading changes nothing.
  BOOST_TEST(read_checkpoint_state(folder / "c")["step"] == 2);
  BOOST_CHECK_NO_THROW(load_checkpoint(folder / "c", model, optimizer));
  BOOST_TEST((names() == std::vector<std::string>{"c", "c.next"}));
  recover_checkpoint(folder / "c");
  BOOST_TEST((names() == std::vector<std::string>{"c"}));
  BOOST_TEST(read_checkpoint_state(folder / "c")["step"] == 2);
  BOOST_CHECK_NO_THROW(load_checkpoint(folder / "c", model, optimizer));

  // The next save puts it right as well, and its own checkpoint is the one that counts.
  leave(3);
  save_checkpoint(folder / "c", model, optimizer, {{"step", 4}});
  BOOST_TEST((names() == std::vector<std::string>{"c"}));
  BOOST_TEST(read_checkpoint_state(folder / "c")["step"] == 4);

  // One that was being removed is none any more.
  save_checkpoint(folder / "c.next", model, optimizer, {{"step", 5}});
  std::filesystem::remove(folder / "c.next/trainer.json");
  BOOST_TEST(read_checkpoint_state(folder / "c")["step"] == 4);
  recover_checkpoint(folder / "c");
  BOOST_TEST(read_checkpoint_state(folder / "c")["step"] == 4);
}

BOOST_AUTO_TEST_CASE(a_checkpoint_behind_a_link_stays_behind_it) {
  TemporaryFolder folder;
  Plain model(1);
  AdamW<Plain> optimizer(model);
  std::filesystem::create_directory(folder / "disk");
  std::filesystem::create_symlink("disk/c", folder / "second");
  std::filesystem::create_symlink("second", folder / "first");
  for (int step = 0; step < 2; ++step) {
    save_checkpoint(folder / "first", model, optimizer, {{"step", step}});
    BOOST_TEST(read_checkpoint_state(folder / "first")["step"] == step);
    BOOST_TEST(read_checkpoint_state(folder / "disk/c")["step"] == step);
    BOOST_TEST(std::filesystem::is_symlink(folder / "first"));
    BOOST_TEST(std::distance(std::filesystem::directory_iterator(folder.path()), {}) == 3);
    BOOST_TEST(std::distance(std::filesystem::directory_iterator(folder / "disk"), {}) == 1);
  }
}

BOOST_AUTO_TEST_CASE(a_save_that_fails_leaves_the_last_checkpoint) {
  TemporaryFolder folder;
  Plain model(1);
  AdamW<Plain> optimizer(model);
  save_checkpoint(folder / "c", model, optimizer, {{"step", 1}});
  folder.write("f/file", "in the way");
  BOOST_CHECK_EXCEPTION(save_checkpoint(folder / "f/file/c", model, optimizer, {}), Error,
                        says("cannot create", "c.part"));
  // JSON cannot hold what is not UTF-8: the save dies after the weights are written.
  BOOST_CHECK_THROW(save_checkpoint(folder / "c", model, optimizer, {{"step", "\xff"}}), std::exception);
  BOOST_TEST(read_checkpoint_state(folder / "c")["step"] == 1);
  BOOST_TEST(!std::filesystem::exists(folder / "c.part"));
  Plain other(1);
  AdamW<Plain> restored(other);
  BOOST_CHECK_NO_THROW(load_checkpoint(folder / "c", other, restored));
}

BOOST_AUTO_TEST_CASE(damaged_checkpoints_are_refused) {
  TemporaryFolder folder;
  Plain model(1);
  AdamW<Plain> optimizer(model);
  const auto refused = [&](auto... words) {
    BOOST_CHECK_EXCEPTION(load_checkpoint(folder / "c", model, optimizer), Error, says(words...));
  };
  refused("no checkpoint to resume from", "trainer.json");
  save_checkpoint(folder / "c", model, optimizer, {});
  const std::string state = read_file(folder / "c/trainer.json");
  folder.write("c/trainer.json", "");
  refused("trainer.json", "damaged");
  folder.write("c/trainer.json", "{}");
  refused("trainer.json", "damaged", "updates");
  folder.write("c/trainer.json", R"({"updates": "many"})");
  refused("trainer.json", "damaged", "updates");
  folder.write("c/trainer.json", R"({"updates": -1})");
  refused("trainer.json", "damaged", "updates");
  folder.write("c/trainer.json", state);

  // The same tensors, another function.
  TinyModel<Identity, ReLU> relu(1);
  AdamW<TinyModel<Identity, ReLU>> of_relu(relu);
  BOOST_CHECK_EXCEPTION(load_checkpoint(folder / "c", relu, of_relu), Error,
                        says("activation_function", "gelu", "relu"));

  auto moments = tensors_of(folder / "c/optimizer.safetensors");
  named(moments, "v.ln_f.bias").name = "v.other";
  save_safetensors(folder / "c/optimizer.safetensors", moments);
  refused("optimizer.safetensors", "v.ln_f.bias");
  const std::string whole = read_file(folder / "c/optimizer.safetensors");
  folder.write("c/optimizer.safetensors", whole.substr(0, whole.size() - 4));
  refused("optimizer.safetensors", "truncated");
}

BOOST_AUTO_TEST_SUITE_END()
