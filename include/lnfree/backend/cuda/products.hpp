#pragma once

#include <cublasLt.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <type_traits>
#include <utility>

#include <lnfree/backend/cuda/runtime.hpp>
#include <lnfree/core/bfloat16.hpp>
#include <lnfree/core/error.hpp>
#include <lnfree/core/tensor.hpp>

namespace lnfree::cuda {

/// Matrix products by cuBLASLt, which sums in float. A product is planned at its first call and kept for
/// later ones with the same sizes and strides. The tests put a header of the same name in front of this one.
class Products {
 public:
  explicit Products(Stream& stream) : stream_(stream) {
    check(cublasLtCreate(&handle_), "cublasLtCreate");
    workspace_ = stream_.allocate(workspace_bytes);
  }
  Products(const Products&) = delete;
  Products& operator=(const Products&) = delete;
  ~Products() {
    stream_.deallocate(workspace_);
    cublasLtDestroy(handle_);
  }

  static constexpr int most_choices = 8;

  /// Takes cuBLASLt's choice of this number, below most_choices, for every product from now on, or its last
  /// where it has fewer. Programs take the first, number 0; the others tell what that costs.
  void take_choice(int number) {
    assert(number >= 0 && number < most_choices);
    plans_.clear();
    choice_ = number;
  }

  /// c = a b, or a b and an addend.
  template <class S, class T>
  void run(Operand<S> a, Operand<S> b, Output<T> c) {
    const Matrix<const T> addend = c.adds() ? c.addend : Matrix<const T>(c.matrix);
    const Key key{a.rows(),
                  b.cols(),
                  a.cols(),
                  a.matrix.stride,
                  b.matrix.stride,
                  c.matrix.stride,
                  addend.stride,
                  alignment(a.matrix),
                  alignment(b.matrix),
                  alignment(c.matrix),
                  alignment(addend),
                  a.transposed,
                  b.transposed,
                  type_of<S>(),
                  type_of<T>()};
    auto found = plans_.find(key);
    if (found == plans_.end()) found = plans_.emplace(key, plan(key)).first;
    Plan& plan = found->second;
    const float one = 1.0f, beta = c.adds() ? 1.0f : 0.0f;
    // cuBLASLt's matrices are column-major: what it sees are the transposes, C^T = B^T A^T.
    check(cublasLtMatmul(handle_, &plan.product, &one, b.matrix.data, &plan.b, a.matrix.data, &plan.a, &beta,
                         addend.data, &plan.addend, c.matrix.data, &plan.c, &plan.algorithm, workspace_,
                         workspace_bytes, stream_.get()),
          "cublasLtMatmul");
  }

 private:
  /// Rows, columns and depth; strides and alignments of A, B, C and the addend; A^T, B^T; types of the
  /// factors and of C.
  using Key = std::array<Index, 15>;

  /// What cuBLASLt needs to know, in memory of the plan's own: there is nothing to destroy.
  struct Plan {
    cublasLtMatmulDescOpaque_t product{};
    cublasLtMatrixLayoutOpaque_t a{}, b{}, c{}, addend{};
    cublasLtMatmulAlgo_t algorithm{};
  };

  static constexpr std::size_t workspace_bytes = std::size_t{32} << 20;

  template <class T>
  static constexpr Index type_of() {
    return std::is_same_v<T, BFloat16> ? CUDA_R_16BF : CUDA_R_32F;
  }

  /// What all rows of a matrix begin at a multiple of, in bytes.
  template <class T>
  static Index alignment(Matrix<T> matrix) {
    const std::size_t row = static_cast<std::size_t>(matrix.stride) * sizeof(T);
    return (reinterpret_cast<std::uintptr_t>(matrix.data) | row) % 16 == 0 ? 16 : sizeof(T);
  }

  static void check(cublasStatus_t status, const char* what) {
    if (status == CUBLAS_STATUS_SUCCESS) return;
    throw Error(std::string("the GPU failed in ") + what + ": " + cublasLtGetStatusString(status));
  }

  /// cuBLASLt's first choice, which depends on the sizes and the GPU alone. Timing the candidates could find
  /// a faster one, but not the same one in every run: results would differ in their last bits. What that
  /// costs is measured by benchmarks/gpu/products.cu.
  Plan plan(const Key& key) const {
    const auto& [m, n, k, a_stride, b_stride, c_stride, addend_stride, a_alignment, b_alignment, c_alignment,
                 addend_alignment, a_transposed, b_transposed, type, c_type] = key;
    Plan plan;
    check(cublasLtMatmulDescInit(&plan.product, CUBLAS_COMPUTE_32F, CUDA_R_32F), "cublasLtMatmulDescInit");
    // The first factor it sees is B^T.
    for (const auto& [transposed, attribute] : {std::pair{b_transposed, CUBLASLT_MATMUL_DESC_TRANSA},
                                                std::pair{a_transposed, CUBLASLT_MATMUL_DESC_TRANSB}}) {
      const cublasOperation_t operation = transposed != 0 ? CUBLAS_OP_T : CUBLAS_OP_N;
      check(cublasLtMatmulDescSetAttribute(&plan.product, attribute, &operation, sizeof(operation)),
            "cublasLtMatmulDescSetAttribute");
    }
    const auto layout = [](cublasLtMatrixLayoutOpaque_t& layout, Index type, Index rows, Index cols,
                           bool transposed, Index stride) {
      // The rows of a row-major matrix as it is stored are the columns of what cuBLASLt sees.
      if (transposed) std::swap(rows, cols);
      check(
          cublasLtMatrixLayoutInit(&layout, static_cast<cudaDataType>(type), static_cast<std::uint64_t>(cols),
                                   static_cast<std::uint64_t>(rows), stride),
          "cublasLtMatrixLayoutInit");
    };
    layout(plan.a, type, m, k, a_transposed != 0, a_stride);
    layout(plan.b, type, k, n, b_transposed != 0, b_stride);
    layout(plan.c, c_type, m, n, false, c_stride);
    layout(plan.addend, c_type, m, n, false, addend_stride);

    cublasLtMatmulPreferenceOpaque_t preference{};
    check(cublasLtMatmulPreferenceInit(&preference), "cublasLtMatmulPreferenceInit");
    const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
      check(cublasLtMatmulPreferenceSetAttribute(&preference, attribute, &value, sizeof(value)),
            "cublasLtMatmulPreferenceSetAttribute");
    };
    prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, workspace_bytes);
    // A sum that is split is put together in float, in a step of its own: the other schemes round its parts
    // to what the output is stored in.
    prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, std::uint32_t{CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE});
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, static_cast<std::uint32_t>(b_alignment));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, static_cast<std::uint32_t>(a_alignment));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, static_cast<std::uint32_t>(addend_alignment));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, static_cast<std::uint32_t>(c_alignment));
    std::array<cublasLtMatmulHeuristicResult_t, most_choices> choices{};
    int found = 0;
    check(cublasLtMatmulAlgoGetHeuristic(handle_, &plan.product, &plan.b, &plan.a, &plan.addend, &plan.c,
                                         &preference, choice_ + 1, choices.data(), &found),
          "cublasLtMatmulAlgoGetHeuristic");
    // The others it returns are not to be read.
    const auto end = std::remove_if(choices.begin(), choices.begin() + found,
                                    [](const auto& choice) { return choice.state != CUBLAS_STATUS_SUCCESS; });
    const auto usable = static_cast<int>(end - choices.begin());
    if (usable == 0) {
      throw Error("cuBLASLt has no product of " + std::to_string(m) + " x " + std::to_string(k) + " by " +
                  std::to_string(k) + " x " + std::to_string(n));
    }
    plan.algorithm = choices[std::min(usable - 1, choice_)].algo;
    return plan;
  }

  Stream& stream_;
  cublasLtHandle_t handle_ = nullptr;
  void* workspace_ = nullptr;
  int choice_ = 0;
  std::map<Key, Plan> plans_;
};

}  // namespace lnfree::cuda
