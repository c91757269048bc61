#include <lnfree/optim/muon.hpp>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <lnfree/activation/leaky_learnable.hpp>
#include <lnfree/device/cpu/cpu.hpp>
#include <lnfree/device/eigen/eigen.hpp>
#include <lnfree/nn/decoder.hpp>
#include <lnfree/observer/no_observer.hpp>

#include "optim/tensors.hpp"
#include "support/seed.hpp"

using namespace lnfree;
using namespace lnfree::test;

namespace {

template <class Device>
using Moving = Decoder<tiny, LayerNorm, LeakyLearnable<Scope::per_layer>, Device, NoObserver>;

/// A matrix of plain loops.
struct Plain {
  Index rows, cols;
  std::vector<double> values;

  Plain(Index r, Index c) : rows(r), cols(c), values(static_cast<std::size_t>(r * c)) {}
  double& at(Index i, Index j) { return values[static_cast<std::size_t>(i * cols + j)]; }
  double at(Index i, Index j) const { return values[static_cast<std::size_t>(i * cols + j)]; }

  Plain transposed() const {
    Plain result(cols, rows);
    for (Index i = 0; i < rows; ++i) {
      for (Index j = 0; j < cols; ++j) result.at(j, i) = at(i, j);
    }
    return result;
  }
};

Plain operator*(const Plain& a, const Plain& b) {
  Plain c(a.rows, b.cols);
  for (Index i = 0; i < a.rows; ++i) {
    for (Index j = 0; j < b.cols; ++j) {
      for (Index k = 0; k < a.cols; ++k) c.at(i, j) += a.at(i, k) * b.at(k, j);
    }
  }
  return c;
}

/// Newton-Schulz iteration as in its authors' code: a tall matrix is transposed.
Plain orthogonal(Plain x, int iterations) {
  if (x.rows > x.cols) return orthogonal(x.transposed(), iterations).transposed();
  double squares = 0;
  for (const double value : x.values) squares += value * value;
  for (double& value : x.values) value /= std::sqrt(squares) + 1e-7;
  for (int iteration = 0; iteration < iterations; ++iteration) {
    const Plain gram = x * x.transposed(), square = gram * gram;
    Plain polynomial(x.rows, x.rows);
    for (std::size_t i = 0; i < polynomial.values.size(); ++i)
      polynomial.values[i] = -4.7750 * gram.values[i] + 2.0315 * square.values[i];
    const Plain moved = polynomial * x;
    for (std::size_t i = 0; i < x.values.size(); ++i) x.values[i] = 3.4445 * x.values[i] + moved.values[i];
  }
  return x;
}

/// Three updates of every hidden weight matrix, compared with an independent Muon in double.
template <class Device>
double worst_of_matrices(const MuonOptions& options) {
  Moving<Device> model(1);
  draw_weights(model, 0.3);
  TensorsByName expected = read(model), momentum;
  Muon<Moving<Device>> optimizer(model, options);
  for (int step = 0; step < 3; ++step) {
    const double rate = 0.01 * (step + 1);
    draw_gradients(model, 1e-3, static_cast<std::uint64_t>(step));
    for (const auto& p : model.parameters().all()) {
      if (p.shape.size() != 2 || p.name.starts_with("wte") || p.name.starts_with("wpe")) continue;
      const auto g = model.parameters().read(model.device(), p, model.parameters().gradients());
      auto& m = momentum[p.name];
      auto& w = expected.at(p.name);
      m.resize(g.size());
      const Index parts = p.name.find("c_attn") == std::string::npos ? 1 : 3, cols = p.shape[1] / parts;
      for (Index part = 0; part < parts; ++part) {
        Plain x(p.shape[0], cols);
        const auto of = [&](Index i, Index j) {
          return static_cast<std::size_t>(i * p.shape[1] + part * cols + j);
        };
        for (Index i = 0; i < x.rows; ++i) {
          for (Index j = 0; j < cols; ++j) {
            double& kept = m[of(i, j)];
            const auto gradient = static_cast<double>(g[of(i, j)]);
            kept = options.momentum * kept + gradient;
            x.at(i, j) = options.nesterov ? gradient + options.momentum * kept : kept;
          }
        }
        const Plain direction = orthogonal(x, options.iterations);
        const double scale = 0.2 * std::sqrt(static_cast<double>(std::max(x.rows, cols)));
        for (Index i = 0; i < x.rows; ++i) {
          for (Index j = 0; j < cols; ++j) {
            double& weight = w[of(i, j)];
            weight = (1 - rate * options.weight_decay) * weight - rate * scale * direction.at(i, j);
          }
        }
      }
    }
    optimizer.step(rate);
  }
  double worst = 0;
  const TensorsByName ours = read(model);
  for (const auto& [name, m] : momentum) {
    for (std::size_t i = 0; i < m.size(); ++i)
      worst = std::max(worst, std::abs(ours.at(name)[i] - expected.at(name)[i]));
  }
  return worst;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(muon_optimizer)

BOOST_AUTO_TEST_CASE(matrices_move_along_their_orthogonal_momentum) {
  LNFREE_LOG_SEED();
  const MuonOptions unclipped{.rest = {.max_gradient_norm = 0}};
  BOOST_TEST(worst_of_matrices<Reference<double>>(unclipped) < 1e-12);
  BOOST_TEST(worst_of_matrices<Cpu>(unclipped) < 1e-4);
  BOOST_TEST(worst_of_matrices<Reference<double>>({.momentum = 0.8,
                                                   .nesterov = false,
                                                   .iterations = 3,
                                                   .weight_decay = 0.5,
                                                   .rest = {.max_gradient_norm = 0}}) < 1e-12);
}

// All singular values of the iteration's result are near 1.
BOOST_AUTO_TEST_CASE(five_iterations_make_a_matrix_about_orthogonal) {
  LNFREE_LOG_SEED();
  Plain x(6, 20);
  fill_normal(x.values.data(), 120, 1.0, Philox(seed(), 1));
  const Plain y = orthogonal(x, 5), gram = y * y.transposed();
  double trace = 0;
  for (Index i = 0; i < gram.rows; ++i) trace += gram.at(i, i) / static_cast<double>(gram.rows);
  BOOST_TEST(trace > 0.5);
  BOOST_TEST(trace < 1.3);
}

// Embeddings, vectors and scalars are updated by AdamW, with its own options.
BOOST_AUTO_TEST_CASE(the_rest_is_adamws) {
  LNFREE_LOG_SEED();
  using M = Moving<Reference<double>>;
  M by_muon(1), by_adamw(1);
  const MuonOptions options{.rest = {.beta2 = 0.95, .weight_decay = 0.3}};
  Muon<M> muon(by_muon, options);
  AdamW<M> adamw(by_adamw, options.rest);
  for (M* model : {&by_muon, &by_adamw}) draw_weights(*model, 0.3);
  for (std::uint64_t step = 0; step < 3; ++step) {
    for (M* model : {&by_muon, &by_adamw}) draw_gradients(*model, 0.1, step);
    BOOST_TEST(muon.step(0.01) == adamw.step(0.01));
  }
  const TensorsByName expected = read(by_adamw);
  for (const auto& [name, values] : read(by_muon)) {
    const bool is_matrix = name.find(".c_") != std::string::npos && name.ends_with(".weight");
    BOOST_TEST((values == expected.at(name)) != is_matrix, name);
  }
}

BOOST_AUTO_TEST_SUITE_END()
