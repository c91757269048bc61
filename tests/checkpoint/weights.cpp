#include "lnfree/checkpoint/weights.hpp"

#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "checkpoint/tensors.hpp"
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
                          contains("model.safetensors", "another architecture", words...));
    BOOST_TEST((weights(other) == before));
  }

  /// Changes the type of a tensor in the file, with the same number of bytes.
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

BOOST_AUTO_TEST_SUITE(weights_in_files)

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

BOOST_AUTO_TEST_CASE(files_of_others_are_read) {
  Weights file;
  file.check_loads();
  for (NamedTensor& tensor : file.tensors) tensor.name = "transformer." + tensor.name;
  file.tensors.push_back(filled("transformer.h.0.attn.bias", {1, 1, 9, 9}, 1));
  file.tensors.push_back(filled("h.1.attn.masked_bias", {}, -10000));
  file.tensors.push_back(filled("lm_head.weight", {tiny.vocab_size, C}, 3));
  file.check_loads();
  // Masks have a type that no weight has.
  file.retype("transformer.h.0.attn.bias", "U8");
  file.check_loads_from_file();
  file.retype("transformer.h.1.mlp.c_fc.weight", "I8");
  Plain other(1);
  other.initialize(6);
  const auto before = weights(other);
  BOOST_CHECK_EXCEPTION(load_weights(other, file.path), Error,
                        contains("h.1.mlp.c_fc.weight", "dtype I8", "cannot be read"));
  BOOST_TEST((weights(other) == before));
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
  BOOST_CHECK_EXCEPTION(load_weights(normed, file.path), Error,
                        contains("tensor h.0.ln_1.weight", "missing"));
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

BOOST_AUTO_TEST_CASE(a_model_in_several_files_is_read_by_its_index) {
  Weights file;
  const TemporaryFolder& folder = file.folder;
  const auto is_first = [](const std::string& name) { return name.starts_with("h."); };
  std::vector<NamedTensor> parts[2];
  Json map;
  for (const NamedTensor& tensor : file.tensors) {
    parts[is_first(tensor.name) ? 0 : 1].push_back(tensor);
    map[tensor.name] = is_first(tensor.name) ? "a.safetensors" : "b.safetensors";
  }
  std::filesystem::remove(file.path);
  const auto loads = [&] {
    Plain other(1);
    other.initialize(6);
    load_weights(other, folder.path());
    return weights(other) == weights(file.model);
  };
  const auto refused = [&](auto... words) {
    Plain other(1);
    other.initialize(6);
    const auto before = weights(other);
    BOOST_CHECK_EXCEPTION(load_weights(other, folder.path()), Error, contains(words...));
    BOOST_TEST((weights(other) == before));
  };
  const auto write_index = [&](const Json& index) {
    folder.write("model.safetensors.index.json", index.dump());
  };
  refused("holds no weights", "model.safetensors");
  folder.write("pytorch_model.bin", "");
  refused("pytorch_model.bin");
  BOOST_CHECK_EXCEPTION(find_tensors(folder / "pytorch_model.bin"), Error,
                        contains("pytorch_model.bin", "safetensors"));
  std::filesystem::rename(folder / "pytorch_model.bin", folder / "pytorch_model.bin.index.json");
  refused("pytorch_model.bin");

  write_index({{"metadata", Json::object()}, {"weight_map", map}});
  save_safetensors(folder / "a.safetensors", parts[0]);
  refused("names \"b.safetensors\"", "not there");
  save_safetensors(folder / "b.safetensors", parts[1]);
  BOOST_TEST(loads());
  Plain by_index(1);
  load_weights(by_index, folder / "model.safetensors.index.json");
  BOOST_TEST((weights(by_index) == weights(file.model)));

  Json other = map;
  other["wte.weight"] = "a.safetensors";
  write_index({{"weight_map", other}});
  refused("tensor wte.weight", "does not hold it");
  for (const Json& name : {Json("../b.safetensors"), Json("/b.safetensors"), Json(""), Json(3), Json("..")}) {
    other["wte.weight"] = name;
    write_index({{"weight_map", other}});
    refused("tensor wte.weight", "beside it");
  }
  for (const Json& index : {Json::object(), Json{{"weight_map", Json::object()}}, Json{{"weight_map", 3}}}) {
    write_index(index);
    refused("index.json is damaged", "weight_map");
  }
  write_index(Json(3));
  refused("index.json is damaged");
  // If both exist, the single file is used, as in transformers.
  save_weights(file.model, file.path);
  BOOST_TEST(loads());
}

BOOST_AUTO_TEST_CASE(a_tensor_under_two_names_is_refused) {
  Weights file;
  file.tensors.push_back(filled("transformer.wte.weight", {tiny.vocab_size, C}, 3));
  save_safetensors(file.path, file.tensors);
  BOOST_CHECK_EXCEPTION(load_weights(file.model, file.path), Error,
                        contains("twice", "wte.weight", "transformer.wte.weight"));
}

BOOST_AUTO_TEST_CASE(a_gpt_neox_is_read) {
  constexpr DecoderConfig shape{.layers = 2,
                                .heads = 2,  // not 3, or the order of Q, K and V would not matter
                                .width = 12,
                                .ffn_width = 20,
                                .context = 9,
                                .vocab_size = 37,
                                .biases = Biases::all,
                                .tied_output = false,
                                .rotary_dims = 2,
                                .parallel_residual = true};
  using Pythia = TinyModel<LayerNorm, GELU, shape>;
  TemporaryFolder folder;
  Pythia model(1);
  model.initialize(5);
  for (auto& parameter : model.parameters().all()) {  // a bias of 0 could hide a mistake
    std::vector<float> values(static_cast<std::size_t>(parameter.size()));
    fill_normal(values.data(), parameter.size(), 1, Philox(7, stream_of(parameter.name)), 0);
    model.parameters().write(model.device(), parameter, values.data());
  }
  save_weights(model, folder / "ours.safetensors");
  const auto ours = SafetensorsFile::open(folder / "ours.safetensors");

  // Channel c of head h in query, key or value `part`, by the definition of either layout.
  constexpr Index width = shape.width, head_dim = width / 2;
  const auto fused = [&](const std::string& name, Index columns) {
    const std::vector<float> values = ours.read(name);
    std::vector<float> result(values.size());
    for (Index part = 0; part < 3; ++part) {
      for (Index h = 0; h < 2; ++h) {
        for (Index c = 0; c < head_dim; ++c) {
          for (Index i = 0; i < columns; ++i) {
            result[static_cast<std::size_t>(((h * 3 + part) * head_dim + c) * columns + i)] =
                values[static_cast<std::size_t>(i * 3 * width + part * width + h * head_dim + c)];
          }
        }
      }
    }
    return result;
  };
  const auto turned = [&](const std::string& name, Index in, Index out) {
    const std::vector<float> values = ours.read(name);
    std::vector<float> result(values.size());
    for (Index i = 0; i < in; ++i) {
      for (Index o = 0; o < out; ++o)
        result[static_cast<std::size_t>(o * in + i)] = values[static_cast<std::size_t>(i * out + o)];
    }
    return result;
  };
  std::vector<NamedTensor> theirs;
  const auto add = [&](const std::string& name, Shape size, std::vector<float> values) {
    theirs.push_back({name, std::move(size), [=] { return values; }});
  };
  const auto same = [&](const std::string& name, const std::string& our_name) {
    add(name, ours.find(our_name)->shape, ours.read(our_name));
  };
  same("gpt_neox.embed_in.weight", "wte.weight");
  same("gpt_neox.final_layer_norm.weight", "ln_f.weight");
  same("gpt_neox.final_layer_norm.bias", "ln_f.bias");
  same("embed_out.weight", "lm_head.weight");
  for (const std::string l : {"0", "1"}) {
    const std::string there = "gpt_neox.layers." + l + ".", here = "h." + l + ".";
    for (const std::string end : {"weight", "bias"}) {
      same(there + "input_layernorm." + end, here + "ln_1." + end);
      same(there + "post_attention_layernorm." + end, here + "ln_2." + end);
    }
    add(there + "attention.query_key_value.weight", {3 * width, width},
        fused(here + "attn.c_attn.weight", width));
    add(there + "attention.query_key_value.bias", {3 * width}, fused(here + "attn.c_attn.bias", 1));
    add(there + "attention.dense.weight", {width, width}, turned(here + "attn.c_proj.weight", width, width));
    same(there + "attention.dense.bias", here + "attn.c_proj.bias");
    add(there + "mlp.dense_h_to_4h.weight", {20, width}, turned(here + "mlp.c_fc.weight", width, 20));
    same(there + "mlp.dense_h_to_4h.bias", here + "mlp.c_fc.bias");
    add(there + "mlp.dense_4h_to_h.weight", {width, 20}, turned(here + "mlp.c_proj.weight", 20, width));
    same(there + "mlp.dense_4h_to_h.bias", here + "mlp.c_proj.bias");
    add(there + "attention.rotary_emb.inv_freq", {1}, {1});
    add(there + "attention.bias", {1}, {1});
    add(there + "attention.masked_bias", {}, {-1e9f});
  }
  const auto path = folder / "theirs.safetensors";
  save_safetensors(path, theirs);
  Pythia other(1);
  load_weights(other, path);
  BOOST_TEST((weights(other) == weights(model)));

  named(theirs, "gpt_neox.layers.1.attention.query_key_value.bias").shape = {36, 1};
  save_safetensors(path, theirs);
  BOOST_CHECK_EXCEPTION(load_weights(other, path), Error,
                        contains("h.1.attn.c_attn.bias", "gpt_neox.layers.1.attention.query_key_value.bias"));
  named(theirs, "gpt_neox.layers.1.attention.query_key_value.bias").shape = {36};
  named(theirs, "gpt_neox.layers.1.mlp.dense_h_to_4h.weight").shape = {width, 20};
  save_safetensors(path, theirs);
  BOOST_CHECK_EXCEPTION(load_weights(other, path), Error,
                        contains("h.1.mlp.c_fc.weight", "dense_h_to_4h", "[20, 12]", "expected [12, 20]"));
}

BOOST_AUTO_TEST_SUITE_END()
