/// A model's matrices as Eigen views: attention starts from orthogonal output weights, and the program prints
/// how far a few steps move them. docs/training.md shows the middle of this file.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include <Eigen/QR>

#include <lnfree/core/eigen.hpp>
#include <lnfree/model.hpp>

using namespace lnfree;

constexpr DecoderConfig shape{
    .layers = 2, .heads = 4, .width = 64, .ffn_width = 256, .context = 32, .vocab_size = 128};

using RowMajor = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

double distance_from_orthogonal(const Eigen::Ref<const RowMajor>& w) {
  return (w.transpose() * w - RowMajor::Identity(w.cols(), w.cols())).norm();
}

int main() {
  Decoder<shape, Identity, ReLU> model(8);
  model.initialize(/*seed=*/1337);
  AdamW optimizer(model);
  auto& weight = *std::find_if(model.parameters().all().begin(), model.parameters().all().end(),
                               [](const auto& p) { return p.name == "h.0.attn.c_proj.weight"; });

  // Reading from a model is a view, without a copy. Writing to it takes row-major numbers.
  const auto w = as_eigen(weight.value_matrix());
  const RowMajor q = w.householderQr().householderQ();
  model.parameters().write(model.device(), weight, q.data());
  const double before = distance_from_orthogonal(w);

  const std::string text = "def relu(x):\n    return x if x > 0 else 0\n\n";  // a token is a byte
  std::vector<std::int32_t> tokens(8 * shape.context), targets(tokens.size());
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    tokens[i] = text[i % text.size()];
    targets[i] = text[(i + 1) % text.size()];
  }
  for (int step = 0; step < 10; ++step) {
    model.forward_backward({{8, shape.context}, tokens, targets});
    const auto gradient = as_eigen(weight.gradient_matrix());
    std::printf("step %2d: |W'W - 1| %.3f, |gradient| %.1e\n", step, distance_from_orthogonal(w),
                gradient.norm());
    optimizer.step(/*learning_rate=*/1e-3);
  }

  // An Eigen matrix, or some of its rows, as an argument of a primitive.
  const RowMajor x = RowMajor::Random(8, shape.width);
  RowMajor y(4, shape.width);
  gemm(model.device(), as_matrix(x.topRows(4)), weight.value_matrix(), as_matrix(y));
  const double error = (y - x.topRows(4) * w).norm();
  return before < 1e-4 && distance_from_orthogonal(w) > 1e-2 && error < 1e-4 ? 0 : 1;
}
