#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <lnfree/activation/gelu.hpp>
#include <lnfree/checkpoint/architecture.hpp>
#include <lnfree/checkpoint/binary_file.hpp>
#include <lnfree/checkpoint/weights.hpp>
#include <lnfree/core/atomic_file.hpp>
#include <lnfree/core/error.hpp>

/// A model file of llm.c: a header of 256 32-bit integers, then the tensors of a GPT-2 in a fixed order.
/// Tensors of the same kind follow each other, layer by layer. Matrices are (out, in), and rows of zeros
/// extend the token table to a multiple of 128 rows.
namespace lnfree::llm_c {

inline constexpr std::int32_t magic = 20240326;    ///< The first number of the header.
inline constexpr std::int32_t version_float = 3;   ///< The second one, of a file in float.
inline constexpr std::int32_t version_bf16 = 5;    ///< The same in bf16.
inline constexpr Index vocabulary_multiple = 128;  ///< Rows of the token table.

/// The header of a file.
using Header = std::array<std::int32_t, 256>;

/// Whether a file begins like a model file of llm.c.
inline bool is_model_file(const std::filesystem::path& path) {
  const BinaryFile file(path, "a model file");
  std::int32_t first = 0;
  if (file.size() >= sizeof(first)) file.read(0, &first, sizeof(first));
  return first == magic;
}

/// Calls f(name, shape, is_transposed) for each tensor in the file's order, with lnfree's name and shape.
template <class F>
void for_each_tensor(const DecoderConfig& sizes, const F& f) {
  const Index width = sizes.width;
  f("wte.weight", std::vector<Index>{sizes.vocab_size, width}, false);
  f("wpe.weight", std::vector<Index>{sizes.position_rows(), width}, false);
  const std::pair<const char*, std::vector<Index>> of_block[] = {{"ln_1.weight", {width}},
                                                                 {"ln_1.bias", {width}},
                                                                 {"attn.c_attn.weight", {width, 3 * width}},
                                                                 {"attn.c_attn.bias", {3 * width}},
                                                                 {"attn.c_proj.weight", {width, width}},
                                                                 {"attn.c_proj.bias", {width}},
                                                                 {"ln_2.weight", {width}},
                                                                 {"ln_2.bias", {width}},
                                                                 {"mlp.c_fc.weight", {width, 4 * width}},
                                                                 {"mlp.c_fc.bias", {4 * width}},
                                                                 {"mlp.c_proj.weight", {4 * width, width}},
                                                                 {"mlp.c_proj.bias", {width}}};
  for (const auto& [name, shape] : of_block) {
    for (int l = 0; l < sizes.layers; ++l) f("h." + std::to_string(l) + "." + name, shape, shape.size() == 2);
  }
  f("ln_f.weight", std::vector<Index>{width}, false);
  f("ln_f.bias", std::vector<Index>{width}, false);
}

/// A model and its tensors, which are read from the file when they are used.
struct Model {
  Architecture architecture;          ///< A GPT-2.
  std::vector<StoredTensor> tensors;  ///< Under lnfree's names and in its layout.
};

/// Opens a model file. Throws Error for an unknown version, invalid sizes, and a file that is longer or
/// shorter than its sizes need.
inline Model read_model(const std::filesystem::path& path) {
  const auto file = std::make_shared<const BinaryFile>(path, "a model file of llm.c");
  Header header{};
  if (file->size() < sizeof(header)) {
    throw Error(path.string() + " is truncated or not a model file of llm.c: it has only " +
                std::to_string(file->size()) + " bytes");
  }
  file->read(0, header.data(), sizeof(header));
  if (header[0] != magic) {
    throw Error(path.string() + " is not a model file of llm.c: it begins with " + std::to_string(header[0]) +
                ", not " + std::to_string(magic));
  }
  if (header[1] != version_float && header[1] != version_bf16) {
    throw Error(path.string() + " has version " + std::to_string(header[1]) +
                " of llm.c's format, which is not read; expected 3 (float32) or 5 (bfloat16)");
  }
  const std::string dtype = header[1] == version_float ? "F32" : "BF16";
  Model model{read_architecture(SavedConfig{.keys = {{"n_positions", header[2]},
                                                     {"vocab_size", header[3]},
                                                     {"n_layer", header[4]},
                                                     {"n_head", header[5]},
                                                     {"n_embd", header[6]}},
                                            .fault = ""},
                                path),
              {}};
  const DecoderConfig& sizes = model.architecture.sizes;
  const std::int32_t padded_rows = header[7];
  if (padded_rows < sizes.vocab_size) {
    throw Error(path.string() + " is damaged: its padded vocabulary of " + std::to_string(padded_rows) +
                " is less than its vocabulary of " + std::to_string(sizes.vocab_size));
  }
  // No overflow: read_architecture() has bounded every size.
  std::uint64_t offset = sizeof(header);
  for_each_tensor(sizes, [&](const std::string& name, const std::vector<Index>& shape, bool is_transposed) {
    StoredTensor tensor;
    tensor.name = tensor.name_in_file = name;
    tensor.shape = shape;
    tensor.data = [file, offset, shape, is_transposed, dtype] {
      auto values = file->read_numbers(offset, static_cast<std::size_t>(size_of(shape)), dtype);
      return is_transposed ? transposed(values, shape[1], shape[0]) : values;
    };
    const Index rows = name == "wte.weight" ? padded_rows : shape[0];
    offset += static_cast<std::uint64_t>(size_of(shape) / shape[0] * rows) * element_bytes(dtype);
    model.tensors.push_back(std::move(tensor));
  });
  if (offset != file->size()) {
    throw Error(path.string() + " is damaged: its sizes need " + std::to_string(offset) +
                " bytes, but it has " + std::to_string(file->size()));
  }
  return model;
}

/// Why llm.c cannot compute a model of this architecture; empty if it can. Missing biases do not matter,
/// since zeros can take their place.
inline std::string difference(const Architecture& architecture) {
  Architecture expected = architecture;
  expected.norm = expected.final_norm = LayerNorm::name;
  expected.layout = PreNorm::name;
  expected.activation = GELUTanh::name;
  expected.layer_norm_epsilon = LayerNorm::epsilon;
  expected.sizes.ffn_width = 4 * expected.sizes.width;
  expected.sizes.rotary_dims = 0;
  expected.sizes.tied_output = true;
  return architecture_difference(expected, architecture);
}

/// Writes a model for which difference() is empty, as "F32" or "BF16"; `tensors` must have all tensors of
/// for_each_tensor().
inline void write_model(const std::filesystem::path& path, const DecoderConfig& sizes,
                        const std::map<std::string, NamedTensor>& tensors, std::string_view dtype) {
  const Index padded_rows =
      (sizes.vocab_size + vocabulary_multiple - 1) / vocabulary_multiple * vocabulary_multiple;
  Header header{magic,
                dtype == "F32" ? version_float : version_bf16,
                sizes.position_rows(),
                sizes.vocab_size,
                sizes.layers,
                sizes.heads,
                sizes.width,
                static_cast<std::int32_t>(padded_rows)};
  AtomicFile file(path);
  file.write(header.data(), sizeof(header));
  for_each_tensor(sizes, [&](const std::string& name, const std::vector<Index>& shape, bool is_transposed) {
    std::vector<float> values = tensors.at(name).data();
    if (is_transposed) values = transposed(values, shape[0], shape[1]);
    if (name == "wte.weight") values.resize(static_cast<std::size_t>(padded_rows * sizes.width));
    write_numbers(file, values, dtype);
  });
  file.commit();
}

}  // namespace lnfree::llm_c
