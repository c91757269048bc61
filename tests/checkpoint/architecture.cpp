#include "lnfree/checkpoint/architecture.hpp"

#include <boost/test/unit_test.hpp>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lnfree/checkpoint/named_parts.hpp"

#include "train/support.hpp"

using namespace lnfree;
using namespace lnfree::test;

namespace {

using Plain = TinyModel<Identity, GELU>;

/// The architecture of a folder with this config.json.
Architecture described(const Json& config) {
  TemporaryFolder folder;
  folder.write("config.json", config.dump());
  return read_architecture(folder.path());
}

void refuses(const Json& config, const std::string& key, const std::string& what) {
  BOOST_CHECK_EXCEPTION(described(config), Error, contains("config.json", "its " + key, what));
}

// A GPT-NeoX config as written by transformers 4 and 5, with an unusual activation.
const Json neox = Json::parse(R"({
  "architectures": ["GPTNeoXForCausalLM"], "attention_bias": true, "attention_dropout": 0.0, "bos_token_id": 0,
  "classifier_dropout": 0.1, "eos_token_id": 2, "hidden_act": "gelu_fast", "hidden_dropout": 0.0,
  "hidden_size": 24, "initializer_range": 0.02, "intermediate_size": 40, "layer_norm_eps": 1e-05,
  "max_position_embeddings": 7, "model_type": "gpt_neox", "num_attention_heads": 2, "num_hidden_layers": 3,
  "partial_rotary_factor": 0.5, "rope_scaling": null, "rope_theta": 10000, "rotary_emb_base": 10000,
  "rotary_pct": 0.5, "tie_word_embeddings": false, "torch_dtype": "float32", "transformers_version": "4.46.3",
  "use_cache": true, "use_parallel_residual": true, "vocab_size": 11})");

}  // namespace

BOOST_AUTO_TEST_SUITE(architecture)

BOOST_AUTO_TEST_CASE(a_config_json_that_cannot_be_read_is_named) {
  TemporaryFolder folder;
  BOOST_CHECK_EXCEPTION(read_architecture(folder.path()), Error,
                        contains("cannot read", "config.json", "No such file"));
  std::filesystem::create_directory(folder / "config.json");
  BOOST_CHECK_EXCEPTION(read_architecture(folder.path()), Error,
                        contains("cannot read", "config.json", "is not a file"));
  // A file of the model, and the folder of a run.
  folder.write("run/checkpoint/config.json", "{}");
  const auto weights = folder.write("run/checkpoint/model.safetensors", "");
  BOOST_CHECK_EXCEPTION(
      read_architecture(weights), Error,
      contains("model.safetensors is a file; give the folder of a model, ", weights.parent_path().c_str()));
  BOOST_CHECK_EXCEPTION(read_architecture(folder.write("lone", "")), Error,
                        contains("lone is a file", "which holds config.json"));
  BOOST_CHECK_EXCEPTION(read_architecture(folder / "run"), Error,
                        contains("is the folder of a run", "run/checkpoint"));
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
  // A model that Hugging Face's GPT-2 would compute differently is not labeled GPT-2.
  constexpr DecoderConfig turned = [] {
    DecoderConfig config = tiny;
    config.rotary_dims = 4;
    return config;
  }();
  BOOST_TEST((config_json<TinyModel<LayerNorm, ReLU, turned>>()["model_type"]) == "lnfree");
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
    BOOST_TEST(contains("its " + std::string(key) + " is missing")(Error(difference(incomplete))));
  }
  BOOST_TEST(
      difference({{"model_type", "gpt2"}, {"n_inner", nullptr}, {"n_positions", 1024}, {"n_ctx", 1024}}) ==
      "");
  for (const auto& [key, value] : {std::pair{"activation_function", "relu"}, {"norm", "layer_norm"}}) {
    Json other = own;
    other[key] = value;
    BOOST_TEST(contains(key, value)(Error(difference(other))));
  }
  BOOST_CHECK_EXCEPTION(architecture_difference<Plain>(folder / "none"), Error, contains("config.json"));
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
      BOOST_TEST(
          contains("another architecture", "its " + key + " is " + value.dump())(Error(difference(other))),
          key << ": " << difference(other));
    }
  }
}

BOOST_AUTO_TEST_CASE(layers_have_the_activations_that_a_name_says) {
  using Device = Reference<float>;
  // Eight layers: G saves the activation's input for the backward pass, R its output.
  const auto layers = [](std::string_view name) {
    const auto factory = detail::activation_named<Device, KnownPolicies::Activations>(name);
    ParameterSet<Device> parameters;
    std::string found;
    for (int layer = 0; layer < 8; ++layer)
      found += factory(parameters, "h." + std::to_string(layer), layer)->saves_input() ? 'G' : 'R';
    return found;
  };
  BOOST_TEST(layers("gelu") == "GGGGGGGG");
  BOOST_TEST(layers("relu*3+gelu") == "RRRGGGGG");
  BOOST_TEST(layers("relu*1+gelu*1") == "RGRGRGRG");
  BOOST_TEST(layers("gelu*1+relu*2") == "GRRGRRGR");
  BOOST_TEST(layers("gelu*2147483647+relu*2147483647") == "GGGGGGGG");
  for (const char* name : {"relu*x+gelu", "relu*-1+gelu", "relu*1+gelu*0", "relu*9999999999+gelu"}) {
    BOOST_CHECK_EXCEPTION(layers(name), Error, contains("this program knows no activation"));
  }
}

BOOST_AUTO_TEST_CASE(what_was_written_is_read_again) {
  const auto check = []<class Model>() {
    const Architecture written = architecture_of<Model>();
    const Architecture read = described(to_json(written));
    BOOST_TEST(architecture_difference(written, read) == "");
    BOOST_TEST(to_json(read).dump() == to_json(written).dump());
    BOOST_TEST((read.sizes == Model::config));
  };
  check.operator()<Plain>();
  check.operator()<TinyModel<LayerNorm, ReLU>>();
  check.operator()<TinyModel<RMSNorm, Layerwise<ReLU, 1, GELU>, clean(tiny)>>();
  check.operator()<TinyModel<RMSNorm, Layerwise<ReLU, 1, GELU, 1>, clean(tiny)>>();
  check.operator()<TinyModel<DynamicTanh, LeakyLearnable<Scope::global>, demo>>();
  check.operator()<TinyModel<LayerNorm, GELU, pythia_demo>>();
  constexpr DecoderConfig bare = [] {
    DecoderConfig config = tiny;
    config.final_norm = FinalNorm::none;
    config.biases = Biases::none;
    return config;
  }();
  check.operator()<TinyModel<LayerNorm, GELU, bare>>();
  check.operator()<Decoder<tiny, Identity, GELU, Reference<float>, NoObserver, Sandwich, EntropyGuided>>();

  const Plain model(1);
  BOOST_TEST(architecture_difference(architecture_of(model), architecture_of<Plain>()) == "");
  const std::string difference =
      architecture_difference(architecture_of(model), architecture_of<TinyModel<Identity, ReLU>>());
  BOOST_TEST(difference == R"(its activation_function is "relu", expected "gelu")");
  // An objective has parameters, but no logit depends on them.
  const Architecture guided = architecture_of<
      Decoder<tiny, Identity, GELU, Reference<float>, NoObserver, AsConfigured, EntropyGuided>>();
  BOOST_TEST(described(to_json(guided)).objective == "entropy_penalty");
  BOOST_TEST(architecture_difference(architecture_of(model), guided) == "");
}

BOOST_AUTO_TEST_CASE(a_gpt2_of_others_is_read) {
  const Architecture small = described({{"model_type", "gpt2"},
                                        {"n_layer", 3},
                                        {"n_head", 2},
                                        {"n_embd", 10},
                                        {"n_inner", nullptr},
                                        {"n_positions", 7},
                                        {"n_ctx", 1024},
                                        {"vocab_size", 11}});
  BOOST_TEST((small.sizes == DecoderConfig{.layers = 3,
                                           .heads = 2,
                                           .width = 10,
                                           .ffn_width = 40,
                                           .context = 7,
                                           .vocab_size = 11,
                                           .biases = Biases::all}));
  BOOST_TEST(small.is_gpt2());
  BOOST_TEST(small.activation == "gelu_new");
  refuses({{"model_type", "gpt2"}, {"n_head", 2}}, "n_layer", "missing");
  refuses({{"model_type", "gpt2"}, {"scale_attn_by_inverse_layer_idx", true}},
          "scale_attn_by_inverse_layer_idx", "does not know");
}

BOOST_AUTO_TEST_CASE(a_gpt_neox_of_others_is_read) {
  const Architecture architecture = described(neox);
  constexpr DecoderConfig sizes{.layers = 3,
                                .heads = 2,
                                .width = 24,
                                .ffn_width = 40,
                                .context = 7,
                                .vocab_size = 11,
                                .biases = Biases::all,
                                .tied_output = false,
                                .rotary_dims = 6,
                                .parallel_residual = true};
  BOOST_TEST((architecture.sizes == sizes));
  BOOST_TEST(architecture.activation == "gelu_new");
  BOOST_TEST(architecture.layout == "parallel");
  BOOST_TEST(architecture.norm + architecture.final_norm == "layer_normlayer_norm");
  TemporaryFolder folder;
  folder.write("config.json", neox.dump());
  using Pythia = TinyModel<LayerNorm, GELUTanh, sizes>;
  BOOST_TEST(architecture_difference<Pythia>(folder.path()) == "");
  BOOST_TEST(contains("another architecture", "its n_layer is 3, expected 8")(
      Error(architecture_difference<TinyModel<LayerNorm, GELUTanh, pythia_demo>>(folder.path()))));

  Json later = neox;
  for (const char* key : {"partial_rotary_factor", "rope_theta", "rotary_emb_base", "rotary_pct"})
    later.erase(key);
  later["rope_parameters"] = {
      {"partial_rotary_factor", 0.5}, {"rope_theta", 10000.0}, {"rope_type", "default"}};
  BOOST_TEST((described(later).sizes == sizes));
  later.erase("rope_parameters");  // 3 channels, a quarter of 12
  refuses(later, "rotary_dims", "3");
  later["hidden_size"] = 32;
  BOOST_TEST(described(later).sizes.rotary_dims == 4);

  const std::vector<std::pair<std::string, Json>> others{
      {"rotary_emb_base", 500000}, {"rope_theta", 5e5},
      {"attention_bias", false},   {"rotary_pct", 0.0},
      {"sliding_window", 64},      {"rope_scaling", {{"type", "linear"}, {"factor", 2}}}};
  for (const auto& [key, value] : others) {
    Json other = neox;
    other[key] = value;
    if (key == "rotary_pct") other.erase("partial_rotary_factor");
    refuses(other, key, "");
  }
}

BOOST_AUTO_TEST_CASE(sizes_that_make_no_sense_are_refused) {
  const std::vector<std::pair<std::string, Json>> others{{"n_layer", 0},
                                                         {"n_layer", -1},
                                                         {"n_layer", 1e9},
                                                         {"n_layer", 99999999},
                                                         {"n_head", 4},
                                                         {"n_embd", "15"},
                                                         {"n_embd", 2147483648},
                                                         {"n_embd", 1.5},
                                                         {"vocab_size", 9223372036854775807},
                                                         {"vocab_size", nullptr},
                                                         {"n_positions", 8},
                                                         {"rotary_dims", 3},
                                                         {"rotary_dims", 6},
                                                         {"rotary_dims", -2},
                                                         {"biases", "some"},
                                                         {"tie_word_embeddings", 1},
                                                         {"final_norm", "rms_norm"},
                                                         {"layer_norm_epsilon", -1},
                                                         {"norm", 3},
                                                         {"n_layer", 18446744073709551615u}};
  for (const auto& [key, value] : others) {
    Json other = config_json<Plain>();
    other[key] = value;
    BOOST_CHECK_EXCEPTION(described(other), Error,
                          contains("config.json", key, value.is_null() ? "missing" : value.dump()));
  }
}

BOOST_AUTO_TEST_SUITE_END()
