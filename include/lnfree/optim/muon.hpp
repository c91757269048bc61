#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string_view>
#include <utility>

#include <lnfree/core/macros.hpp>
#include <lnfree/core/memory.hpp>
#include <lnfree/core/tensor.hpp>
#include <lnfree/nn/parameter.hpp>
#include <lnfree/optim/adamw.hpp>
#include <lnfree/optim/optimizer.hpp>

namespace lnfree {

/// The defaults are those of "Muon is Scalable for LLM Training" (Liu et al., 2025).
struct MuonOptions {
  double momentum = 0.95;     ///< Decay of the momentum.
  bool nesterov = true;       ///< Whether to use Nesterov momentum.
  int iterations = 5;         ///< Iterations of Newton-Schulz.
  double weight_decay = 0.1;  ///< Of the matrices.
  AdamWOptions rest = {};     ///< For everything else, and for clipping the norm of all gradients.

  /// Calls f(name, value) for each option.
  template <class F>
  void for_each(const F& f) const {
    f("momentum", momentum);
    f("nesterov", nesterov);
    f("iterations", iterations);
    f("matrix_weight_decay", weight_decay);
    rest.for_each(f);
  }
};

namespace muon {

/// m = momentum m + g, and x = m, or Nesterov's g + momentum m, which is then orthogonalized.
template <class T>
struct Momentum {
  T momentum, scale;
  bool nesterov;
  template <class U>
  LNFREE_HOST_DEVICE void operator()(U gradient, U& m, U& x) const {
    const U g = gradient * scale;
    m = momentum * m + g;
    x = nesterov ? g + momentum * m : m;
  }
};

/// y = x.
struct Copy {
  template <class T>
  LNFREE_HOST_DEVICE void operator()(T x, T& y) const {
    y = x;
  }
};

/// x *= factor.
template <class T>
struct Scale {
  T factor;
  template <class U>
  LNFREE_HOST_DEVICE void operator()(U& x) const {
    x *= factor;
  }
};

/// y = a x + b y.
template <class T>
struct Combine {
  T a, b;
  template <class U>
  LNFREE_HOST_DEVICE void operator()(U x, U& y) const {
    y = a * x + b * y;
  }
};

/// w = decay w - rate x.
template <class T>
struct Rule {
  static constexpr const char* name = "muon";
  T decay, rate;
  template <class U>
  LNFREE_HOST_DEVICE void operator()(U& w, U /*gradient*/, U x) const {
    w = decay * w - rate * x;
  }
};

}  // namespace muon

/// Muon (Jordan et al., 2024): hidden weight matrices are updated with their orthogonalized momentum, U V^T
/// instead of U S V^T, which Newton-Schulz iteration approximates in a few products. Embeddings, vectors and
/// scalars are updated by AdamW. The step of an (m, n) matrix is the orthogonal one times 0.2 sqrt(max(m, n))
/// (Liu et al., 2025), which gives it the root mean square of AdamW's steps, so that one learning rate suits
/// both. Q, K and V, which are side by side in one tensor, are three matrices.
template <class Model>
class Muon : public OptimizerBase<Model> {
 public:
  static constexpr std::string_view name = "muon";
  using Options = MuonOptions;
  static constexpr bool whole_matrices = true;

  /// For the parameters of `model`, which must outlive it.
  explicit Muon(Model& model, const Options& options = {}, Share share = {})
      : OptimizerBase<Model>(model, "Muon", std::move(share)),
        options_(options),
        m_(this->add_state("m")),
        v_(this->add_state("v", ParameterKind::embedding)) {
    Arena counted;
    plan(counted);
    memory_ = Buffer<Device>(model.device(), counted.peak());
    Arena placed(memory_.data());
    plan(placed);
  }

  /// Two numbers for each weight: its momentum, and AdamW's second moment or the direction of a matrix. The
  /// iteration's workspace, a few times the largest matrix, is not counted.
  static std::size_t bytes(const MemoryPlan& model) { return 2 * model.gradients; }

  double step(double learning_rate) {
    return this->clipped_step(options_.rest.max_gradient_norm, [&](double scale) {
      auto& parameters = this->model().parameters();
      for (const auto& range : parameters.ranges()) {
        if (range.kind == ParameterKind::weight) continue;
        const double decay = options_.rest.decays(range.kind) ? options_.rest.weight_decay : 0;
        const AdamWRule<Accumulator> rule(options_.rest, learning_rate, decay,
                                          static_cast<double>(this->updates()), scale);
        this->apply(range, rule, m_, v_);
      }
      const auto [begin, count] = matrices();
      if (count == 0) return;
      for_each_element(device(), count,
                       muon::Momentum<Accumulator>{static_cast<Accumulator>(options_.momentum),
                                                   static_cast<Accumulator>(scale), options_.nesterov},
                       static_cast<const Accumulator*>(parameters.gradients() + begin), m_.at(begin),
                       direction_.data);
      for (const auto& parameter : parameters.all()) {
        if (parameter.offset < begin || parameter.offset >= begin + count) continue;
        const Matrix<Accumulator> whole(direction_.data + parameter.offset - begin, parameter.shape[0],
                                        parameter.shape[1]);
        const Index columns = whole.cols / parameter.parts;
        for (Index part = 0; part < parameter.parts; ++part)
          make_orthogonal(whole.columns(part * columns, columns));
        const double rate =
            learning_rate * 0.2 * std::sqrt(static_cast<double>(std::max(whole.rows, columns)));
        const Range range{parameter.kind, parameter.offset, parameter.size()};
        this->apply(
            range,
            muon::Rule<Accumulator>{static_cast<Accumulator>(1 - learning_rate * options_.weight_decay),
                                    static_cast<Accumulator>(rate)},
            View{direction_.data, begin});
      }
    });
  }

 private:
  using Device = typename Model::Device;
  using Scalar = typename Device::Scalar;
  using Accumulator = typename Device::Accumulator;
  using State = typename OptimizerBase<Model>::State;
  using Range = typename OptimizerBase<Model>::Range;

  /// Workspace that apply() treats as state.
  struct View {
    Accumulator* data;
    Index begin;
    Accumulator* at(Index offset) const { return data + (offset - begin); }
  };

  Device& device() { return this->model().device(); }

  /// Begin and number of the elements of the matrices that this process updates.
  std::pair<Index, Index> matrices() {
    const auto& all = this->model().parameters().range(ParameterKind::weight);
    return this->share().within(all.begin, all.count);
  }

  /// Reserves the direction of all matrices, and the iteration's workspace for the largest.
  void plan(Arena& arena) {
    const auto [begin, count] = matrices();
    Index size = 0, square = 0;
    for (const auto& p : this->model().parameters().all()) {
      if (p.offset < begin || p.offset >= begin + count) continue;
      const Index rows = p.shape[0], cols = p.shape[1] / p.parts, side = std::min(rows, cols);
      size = std::max(size, rows * cols);
      square = std::max(square, side * side);
    }
    direction_ = arena.matrix<Accumulator>(1, count);
    x_ = arena.take<Scalar>(size);
    product_ = arena.take<Scalar>(size);
    gram_ = arena.take<Scalar>(square);
    polynomial_ = arena.take<Scalar>(square);
  }

  /// Replaces a matrix U S V^T by approximately U V^T: X <- a X + (b X X^T + c (X X^T)^2) X, from X / ||X||.
  void make_orthogonal(Matrix<Accumulator> direction) {
    const Index rows = direction.rows, cols = direction.cols, side = std::min(rows, cols);
    const Matrix<Scalar> x(x_, rows, cols), product(product_, rows, cols);
    const Matrix<Scalar> gram(gram_, side, side), polynomial(polynomial_, side, side);
    for (Index i = 0; i < rows; ++i) {
      for_each_element(device(), cols, muon::Copy{}, static_cast<const Accumulator*>(direction.row(i)),
                       x.row(i));
    }
    const double norm = std::sqrt(sum_of(device(), x.size(), Square{}, static_cast<const Scalar*>(x.data)));
    for_each_element(device(), x.size(),
                     muon::Scale<Accumulator>{static_cast<Accumulator>(1 / (norm + 1e-7))}, x.data);
    // Jordan's coefficients, which bring all singular values near 1 in few iterations.
    const muon::Combine<Accumulator> of_square{Accumulator(-4.7750), Accumulator(2.0315)};
    const muon::Combine<Accumulator> of_x{Accumulator(1), Accumulator(3.4445)};
    for (int iteration = 0; iteration < options_.iterations; ++iteration) {
      const bool is_wide = rows <= cols;
      if (is_wide) {
        gemm(device(), x, transpose(x), gram);
      } else {
        gemm(device(), transpose(x), x, gram);
      }
      gemm(device(), gram, gram, polynomial);
      for_each_element(device(), gram.size(), of_square, static_cast<const Scalar*>(gram.data),
                       polynomial.data);
      if (is_wide) {
        gemm(device(), polynomial, x, product);
      } else {
        gemm(device(), x, polynomial, product);
      }
      for_each_element(device(), x.size(), of_x, static_cast<const Scalar*>(product.data), x.data);
    }
    for (Index i = 0; i < rows; ++i) {
      for_each_element(device(), cols, muon::Copy{}, static_cast<const Scalar*>(x.row(i)), direction.row(i));
    }
  }

  Options options_;
  State &m_, &v_;  // momentum, and AdamW's second moments
  Buffer<Device> memory_;
  Matrix<Accumulator> direction_;  // of all matrices, laid out like them
  Scalar *x_ = nullptr, *product_ = nullptr, *gram_ = nullptr, *polynomial_ = nullptr;
};

}  // namespace lnfree
