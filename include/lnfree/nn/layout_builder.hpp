#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
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
};

/// What a norm or a sublayer gives: a value, or what add() adds to one.
struct WiredBranch {
  /// Number of the matrix in the wiring.
  int matrix;
  /// The branch as the input of the next part.
  operator WiredValue() const { return {matrix}; }
};

/// What a layout is written with. The parameters of the norms are named after the block.
template <class N, class Device>
class LayoutBuilder {
 public:
  /// For the block of that name, on a stream of `width` channels.
  LayoutBuilder(ParameterSet<Device>& parameters, std::string block, Index width)
      : parameters_(parameters), block_(std::move(block)), width_(width) {}

  /// The block's attention of x; once in a layout.
  WiredBranch attention(auto x) { return {step(Wiring::Kind::attention, x)}; }

  /// The block's feed-forward network of x; once in a layout.
  WiredBranch feed_forward(auto x) { return {step(Wiring::Kind::feed_forward, x)}; }

  /// The model's norm of x, or another one: layout.template norm<Gate>(...). With Identity it is x itself.
  /// `name` is that of its parameters, "ln_1"; `site` says which of the initial values it takes.
  template <class M = N, class X>
  auto norm(std::string_view name, NormSite site, X x) {
    if constexpr (std::is_same_v<M, Identity>) {
      return x;
    } else {
      norms_.push_back(std::make_unique<Normalization<M, Device>>(
          parameters_, block_ + "." + std::string(name), width_, site));
      return WiredBranch{step(Wiring::Kind::norm, x, static_cast<int>(norms_.size()) - 1)};
    }
  }

  /// stream + branch. Throws Error for a branch that was used already or does not come after the stream.
  WiredValue add(auto stream, WiredBranch branch) {
    const int matrix = read(stream);
    if (matrix >= branch.matrix) throw Error("a layout adds to a value that comes after the branch");
    if (is_read_[static_cast<std::size_t>(branch.matrix)])
      throw Error("a layout adds a branch that it uses elsewhere, too");
    wiring_.step_of(branch.matrix).addend = matrix;
    return {branch.matrix};
  }

  /// The norms and the finished wiring of a layout that returned `result`.
  std::vector<std::unique_ptr<NormLayer<Device>>> take_norms() { return std::move(norms_); }
  /// The steps of the block, of which `result` is what wire() returned.
  Wiring take_wiring(auto result) {
    wiring_.finish(read(result));
    return std::move(wiring_);
  }

 private:
  int step(Wiring::Kind kind, auto x, int norm = -1) {
    const int output = wiring_.add_step({kind, norm, read(x)});
    is_read_.push_back(false);
    return output;
  }
  int read(WiredValue x) {
    if (x.matrix > 0) is_read_[static_cast<std::size_t>(x.matrix)] = true;
    return x.matrix;
  }
  int read(WiredBranch x) {
    if (wiring_.step_of(x.matrix).addend >= 0)
      throw Error("a layout uses a branch that it has added to the stream; use what add() returned");
    is_read_[static_cast<std::size_t>(x.matrix)] = true;
    return x.matrix;
  }

  ParameterSet<Device>& parameters_;
  std::string block_;
  Index width_;
  std::vector<std::unique_ptr<NormLayer<Device>>> norms_;
  Wiring wiring_;
  std::vector<bool> is_read_ = {false};  // whether a matrix has been used, as it is
};

/// How a block is put together: `name`, and a function template
///
///   static auto wire(auto& layout, auto x)
///
/// from the residual stream x to that after the block, written with LayoutBuilder.
template <class L, class N, class Device>
concept Layout = Named<L> && requires(LayoutBuilder<N, Device>& layout, WiredValue x) {
  layout.take_wiring(L::wire(layout, x));
};

}  // namespace lnfree
