#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <lnfree/core/concepts.hpp>
#include <lnfree/core/error.hpp>
#include <lnfree/core/policies.hpp>
#include <lnfree/nn/normalization.hpp>
#include <lnfree/nn/parameter.hpp>
#include <lnfree/nn/wiring.hpp>

namespace lnfree {

/// A matrix of the residual stream's size in a layout.
struct WiredValue {
  /// Number of the matrix in the wiring.
  int matrix;
  bool is_branch =
      false;  ///< Whether it is the output of a norm or sublayer, which add() may add to another value.
};

/// Records the steps of a layout. The parameters of the norms are named after the block.
template <class Device>
class LayoutBuilder {
 public:
  /// `norm` creates the model's norms.
  LayoutBuilder(ParameterSet<Device>& parameters, std::string block, Index width,
                const NormFactory<Device>& norm)
      : parameters_(parameters), block_(std::move(block)), width_(width), norm_(norm) {}

  /// The block's attention of x; once in a layout. If x is the output of a norm that splits off the values,
  /// these have a separate norm of the same matrix.
  WiredValue attention(WiredValue x) {
    const WiredValue values = values_of(x);
    const WiredValue attended{step(Wiring::Kind::attention, x), true};
    if (values.matrix != x.matrix) wiring_.step_of(attended.matrix).values = read(values);
    return attended;
  }

  /// The block's feed-forward network of x; once in a layout.
  WiredValue feed_forward(WiredValue x) { return {step(Wiring::Kind::feed_forward, x), true}; }

  /// The model's norm of x. With Identity it is x itself. `name` is the prefix of its parameters, such as
  /// "ln_1"; `site` selects its initial values.
  WiredValue norm(std::string_view name, NormSite site, WiredValue x) { return norm(norm_, name, site, x); }

  /// The same with another norm: layout.template norm<Gate>(...).
  template <class N>
  WiredValue norm(std::string_view name, NormSite site, WiredValue x) {
    return norm(norm_factory<N, Device>(), name, site, x);
  }

  /// stream + branch. Throws Error if `branch` is not the output of a norm or sublayer, was already used, or
  /// does not come after the stream.
  WiredValue add(WiredValue stream, WiredValue branch) {
    const int matrix = read(stream);
    if (!branch.is_branch) throw Error("a layout may add only the output of a norm or a sublayer");
    if (matrix >= branch.matrix) throw Error("a layout adds to a value that comes after the branch");
    if (is_read_[static_cast<std::size_t>(branch.matrix)])
      throw Error("a layout adds a branch that it uses elsewhere, too");
    wiring_.step_of(branch.matrix).addend = matrix;
    return {branch.matrix};
  }

  /// The norms of the layout.
  std::vector<std::unique_ptr<NormLayer<Device>>> take_norms() { return std::move(norms_); }
  /// The steps of the block, of which `result` is what wire() returned.
  Wiring take_wiring(WiredValue result) {
    wiring_.finish(read(result));
    return std::move(wiring_);
  }

 private:
  WiredValue norm(const NormFactory<Device>& make, std::string_view name, NormSite site, WiredValue x) {
    if (make == nullptr) return x;
    norms_.push_back(make(parameters_, block_ + "." + std::string(name), width_, site));
    names_.emplace_back(name);
    return {step(Wiring::Kind::norm, x, static_cast<int>(norms_.size()) - 1), true};
  }

  /// The input of the values in an attention of x: x, or another norm of the same matrix.
  WiredValue values_of(WiredValue x) {
    if (!x.is_branch) return x;
    const Wiring::Step of_x = wiring_.step_of(x.matrix);
    if (of_x.kind != Wiring::Kind::norm) return x;
    const auto norm_of_x = static_cast<std::size_t>(of_x.norm);
    if (!norms_[norm_of_x]->splits_values()) return x;
    const std::string of_queries = block_ + "." + names_[norm_of_x];
    const std::size_t before = parameters_.all().size();
    const WiredValue values = norm(norm_, names_[norm_of_x] + "_v", NormSite::values, {of_x.input});
    for (std::size_t i = before; i < parameters_.all().size(); ++i) {
      auto& parameter = parameters_.all()[i];
      parameter.starts_as = of_queries + parameter.name.substr(parameter.name.rfind('.'));
    }
    return values;
  }

  int step(Wiring::Kind kind, WiredValue x, int norm = -1) {
    const int output = wiring_.add_step({kind, norm, read(x)});
    is_read_.push_back(false);
    return output;
  }
  int read(WiredValue x) {
    if (x.is_branch && wiring_.step_of(x.matrix).addend >= 0)
      throw Error("a layout uses a branch that it has added to the stream; use what add() returned");
    is_read_[static_cast<std::size_t>(x.matrix)] = true;
    return x.matrix;
  }

  ParameterSet<Device>& parameters_;
  std::string block_;
  Index width_;
  const NormFactory<Device>& norm_;
  std::vector<std::unique_ptr<NormLayer<Device>>> norms_;
  std::vector<std::string> names_;  // of the norms
  Wiring wiring_;
  std::vector<bool> is_read_ = {false};  // whether a matrix has been read directly
};

/// How a block is connected: `name`, and a function template
///
///   static auto wire(auto& layout, auto x)
///
/// that returns the residual stream after the block, given the stream x before it, using LayoutBuilder.
template <class L, class Device>
concept Layout = Named<L> && requires(LayoutBuilder<Device>& layout, WiredValue x) {
  layout.take_wiring(L::wire(layout, x));
};

}  // namespace lnfree
