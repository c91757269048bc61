#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <lnfree/checkpoint/architecture.hpp>
#include <lnfree/checkpoint/safetensors.hpp>
#include <lnfree/core/error.hpp>
#include <lnfree/layout/parallel.hpp>
#include <lnfree/layout/pre_norm.hpp>
#include <lnfree/norm/identity.hpp>
#include <lnfree/norm/staged.hpp>
#include <lnfree/norm/tapered.hpp>

/// Turns a model whose norms were removed during training into one without norms.
namespace lnfree {

/// Tensors by name.
using NamedTensors = std::map<std::string, NamedTensor>;

/// Whether training removes a norm of that name.
inline bool is_removable(const std::string& norm) {
  return norm == Tapered::name || norm == Staged::name;
}

namespace detail {

inline float only_number(const NamedTensors& tensors, const std::string& name) {
  return tensors.at(name).data().at(0);
}

/// Removes the tensors of the norm `name` from `tensors`. Returns the factor of each channel.
inline std::vector<double> take_norm(NamedTensors& tensors, const std::string& name) {
  std::vector<double> factors;
  const auto scale = static_cast<double>(only_number(tensors, name + ".scale"));
  for (const float gain : tensors.at(name + ".weight").data())
    factors.push_back(scale * static_cast<double>(gain));
  for (const char* parameter : {".weight", ".bias", ".gate", ".scale"}) tensors.erase(name + parameter);
  return factors;
}

/// Folds a norm into one column of a matrix, whose elements are `stride` apart: multiplies each element by
/// its factor, and subtracts their mean. A matrix of such columns gives for x what the original gives for (x
/// - mean(x)) factors.
inline void fold_column(float* first, Index stride, const std::vector<double>& factors) {
  double mean = 0;
  for (std::size_t i = 0; i < factors.size(); ++i)
    mean += factors[i] * static_cast<double>(first[static_cast<Index>(i) * stride]);
  mean /= static_cast<double>(factors.size());
  for (std::size_t i = 0; i < factors.size(); ++i) {
    float& number = first[static_cast<Index>(i) * stride];
    number = static_cast<float>(factors[i] * static_cast<double>(number) - mean);
  }
}

/// Folds a norm into the columns [begin, end) of a matrix (C, columns).
inline void fold_columns(NamedTensor& matrix, Index begin, Index end, std::vector<double> factors) {
  matrix.data = [whole = matrix.data, columns = matrix.shape[1], begin, end, factors = std::move(factors)] {
    std::vector<float> numbers = whole();
    for (Index j = begin; j < end; ++j) fold_column(numbers.data() + j, columns, factors);
    return numbers;
  };
}

/// Folds a norm into each row of a matrix (rows, C).
inline void fold_rows(NamedTensor& matrix, std::vector<double> factors) {
  matrix.data = [whole = matrix.data, rows = matrix.shape[0], columns = matrix.shape[1],
                 factors = std::move(factors)] {
    std::vector<float> numbers = whole();
    for (Index i = 0; i < rows; ++i) fold_column(numbers.data() + i * columns, 1, factors);
    return numbers;
  };
}

}  // namespace detail

/// Turns a model whose norms were removed into one without norms that computes the same. What is left of a
/// norm, (x - mean(x)) times a number for each channel, is multiplied into the matrix that reads it. If the
/// final norm is folded, the output matrix is no longer tied to the embedding. Throws Error, and changes
/// nothing, if a norm is not yet removed or if there is none to fold.
inline void fold_norms(Architecture& architecture, NamedTensors& tensors) {
  const bool in_blocks = is_removable(architecture.norm), at_the_end = is_removable(architecture.final_norm);
  if (!in_blocks && !at_the_end) {
    throw Error("there is nothing to fold: the model's norm is " + architecture.norm + ", and only " +
                std::string(Tapered::name) + " and " + std::string(Staged::name) + " norms can be folded");
  }
  if (architecture.layout != PreNorm::name && architecture.layout != Parallel::name) {
    throw Error("a model of the layout " + architecture.layout +
                " cannot be folded: only a norm in front of a matrix can, as in pre_norm and parallel");
  }
  for (const auto& [name, tensor] : tensors) {
    if (!name.ends_with(".gate")) continue;
    if (const float gate = detail::only_number(tensors, name); gate != 0) {
      throw Error("the norm " + name.substr(0, name.size() - 5) + " is not removed yet, its gate is " +
                  std::to_string(gate) + "; train on until it is 0, then fold");
    }
  }
  const DecoderConfig& sizes = architecture.sizes;
  const Index width = sizes.width;
  for (int l = 0; in_blocks && l < sizes.layers; ++l) {
    const std::string block = "h." + std::to_string(l);
    NamedTensor& attention = tensors.at(block + ".attn.c_attn.weight");
    const bool is_split = tensors.contains(block + ".ln_1_v.gate");
    detail::fold_columns(attention, 0, is_split ? 2 * width : 3 * width,
                         detail::take_norm(tensors, block + ".ln_1"));
    if (is_split)
      detail::fold_columns(attention, 2 * width, 3 * width, detail::take_norm(tensors, block + ".ln_1_v"));
    detail::fold_columns(tensors.at(block + ".mlp.c_fc.weight"), 0, sizes.ffn_width,
                         detail::take_norm(tensors, block + ".ln_2"));
  }
  if (at_the_end) {
    if (sizes.tied_output) {
      NamedTensor head = tensors.at("wte.weight");
      head.name = "lm_head.weight";
      tensors.insert_or_assign(head.name, head);
    }
    detail::fold_rows(tensors.at("lm_head.weight"), detail::take_norm(tensors, "ln_f"));
    architecture.sizes.tied_output = false;
    architecture.final_norm = Identity::name;
    architecture.sizes.final_norm = FinalNorm::same_as_norm;
  }
  if (in_blocks) architecture.norm = Identity::name;
}

}  // namespace lnfree
