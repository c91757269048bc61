#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <lnfree/core/eigen.hpp>
#include <lnfree/core/eigenvalues.hpp>
#include <lnfree/core/tensor.hpp>
#include <lnfree/nn/parameter.hpp>

namespace lnfree {

/// The largest singular value of a matrix (rows, cols), its largest stretch of a vector. NaN if an element is
/// not finite.
template <class T>
double largest_singular_value(Matrix<const T> matrix) {
  const RowMajorMatrix<double> w = as_eigen(matrix).template cast<double>();
  if (!w.allFinite()) return std::numeric_limits<double>::quiet_NaN();
  // From the smaller of w w^T and w^T w, scaled so that no square overflows.
  const double scale = w.cwiseAbs().maxCoeff();
  if (scale == 0) return 0;
  const RowMajorMatrix<double> v = w / scale;
  const RowMajorMatrix<double> squares = v.rows() < v.cols() ? RowMajorMatrix<double>(v * v.transpose())
                                                             : RowMajorMatrix<double>(v.transpose() * v);
  return scale * std::sqrt(std::max(0.0, eigenvalues(squares).tail(1)(0)));
}

/// The largest singular value of each weight matrix of a model's blocks at the time of the report, a bound on
/// how far a layer can stretch its input. Embeddings and the output matrix are left out. It observes no
/// passes and keeps nothing. It uses Eigen and so works in C++ sources only.
class WeightObserver {
 public:
  static constexpr std::string_view name = "weights";

  /// For any model.
  WeightObserver(int /*layers*/, int /*heads*/) {}
  /// Does nothing: no passes are observed.
  void reset() {}

  /// Calls f(matrix, numbers) for each weight matrix of a block, such as "mlp.c_fc", with a number for each
  /// layer; "attn.c_attn" holds three matrices side by side and has [layer][query, key, value].
  template <class Device, class F>
  void report(const ParameterSet<Device>& parameters, Device& device, const F& f) const {
    std::vector<const Parameter<Device>*> matrices;
    for (const auto& parameter : parameters.all()) {
      if (parameter.kind == ParameterKind::weight && parameter.shape.size() == 2)
        matrices.push_back(&parameter);
    }
    std::vector<std::vector<double>> values(matrices.size());
    for (std::size_t i = 0; i < matrices.size(); ++i)
      values[i].resize(static_cast<std::size_t>(matrices[i]->parts));
#pragma omp parallel for schedule(dynamic)
    for (std::size_t i = 0; i < matrices.size(); ++i) {
      const Parameter<Device>& parameter = *matrices[i];
      const auto copy = parameters.read(device, parameter);
      const Index rows = parameter.shape[0], stride = parameter.shape[1], cols = stride / parameter.parts;
      for (Index part = 0; part < parameter.parts; ++part) {
        const Matrix whole(copy.data() + part * cols, rows, cols, stride);
        values[i][static_cast<std::size_t>(part)] = largest_singular_value(whole);
      }
    }
    std::map<std::string, std::vector<std::vector<double>>> by_name;
    for (std::size_t i = 0; i < matrices.size(); ++i)
      by_name[matrix_name(matrices[i]->name)].push_back(values[i]);
    for (const auto& [matrix, of_layers] : by_name) {
      if (of_layers[0].size() > 1) {
        f(matrix, of_layers);
      } else {
        std::vector<double> numbers;
        for (const auto& one : of_layers) numbers.push_back(one[0]);
        f(matrix, numbers);
      }
    }
  }

 private:
  /// "h.3.mlp.c_fc.weight" as "mlp.c_fc".
  static std::string matrix_name(const std::string& parameter) {
    std::string_view part = parameter;
    if (part.starts_with("h.")) part.remove_prefix(std::min(part.find('.', 2) + 1, part.size()));
    if (part.ends_with(".weight")) part.remove_suffix(std::string_view(".weight").size());
    return std::string(part);
  }
};

}  // namespace lnfree
