#pragma once

#include <cublasLt.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <lnfree/core/bfloat16.hpp>
#include <lnfree/core/error.hpp>
#include <lnfree/core/float8.hpp>
#include <lnfree/core/tensor.hpp>
#include <lnfree/device/cuda/runtime.hpp>

namespace lnfree::cuda {

/// A checksum that differs, but for rare collisions, between matrices that differ in any bit.
template <class Bits>
__global__ void __launch_bounds__(256) checksum_kernel(Matrix<const Bits> matrix, unsigned long long* sum) {
  unsigned long long mine = 0;
  for (Index i = blockIdx.x; i < matrix.rows; i += gridDim.x) {
    for (Index j = threadIdx.x; j < matrix.cols; j += blockDim.x) {
      // Each number is hashed together with its place (by MurmurHash3's finalizer), so that swapped numbers
      // change the sum.
      unsigned long long bits = matrix.row(i)[j] ^ static_cast<unsigned long long>(i * matrix.cols + j) << 32;
      bits = (bits ^ bits >> 33) * 0xff51afd7ed558ccdull;
      bits = (bits ^ bits >> 33) * 0xc4ceb9fe1a85ec53ull;
      mine += bits ^ bits >> 33;
    }
  }
  atomicAdd(sum, mine);  // integers add up to the same in any order
}

/// The scales of two rounded factors, in device memory; null for factors without a scale.
struct FactorScales {
  const float* a = nullptr;
  const float* b = nullptr;
};

/// Matrix products by cuBLASLt, summed in float. A product is planned at its first call; later calls with the
/// same sizes and strides use that plan again. The tests put a header of the same name in front of this one.
class Products {
 public:
  explicit Products(Stream& stream) : stream_(stream) {
    check(cublasLtCreate(&handle_), "cublasLtCreate");
    workspace_ = stream_.allocate(workspace_bytes);
    checksum_ = static_cast<unsigned long long*>(stream_.allocate(sizeof(*checksum_)));
  }
  Products(const Products&) = delete;
  Products& operator=(const Products&) = delete;
  ~Products() {
    stream_.deallocate(checksum_);
    stream_.deallocate(workspace_);
    cublasLtDestroy(handle_);
  }

  static constexpr int max_choices = 8;

  /// For benchmarks: from now on every product uses cuBLASLt's choice of this number, below max_choices, or
  /// its last one if it has fewer. Without a number products go back to the choice that plan() makes.
  void take_choice(std::optional<int> number) {
    assert(number.value_or(0) >= 0 && number.value_or(0) < max_choices);
    choice_ = number;
  }

  /// c = a b, plus the addend of c if it has one, plus the bias in every row if there is one; then ReLU if
  /// requested. Factors in eight bits need scales, and cuBLASLt accepts them only as a and transpose(b).
  template <class A, class B, class T>
  void run(Operand<A> a, Operand<B> b, Output<T> c, const T* bias = nullptr, bool relu = false,
           FactorScales scales = {}) {
    const Matrix<const T> addend = c.adds() ? c.addend : Matrix<const T>(c.matrix);
    const Key key{.m = a.rows(),
                  .n = b.cols(),
                  .k = a.cols(),
                  .a_stride = a.matrix.stride,
                  .b_stride = b.matrix.stride,
                  .c_stride = c.matrix.stride,
                  .addend_stride = addend.stride,
                  .a_alignment = alignment(a.matrix),
                  .b_alignment = alignment(b.matrix),
                  .c_alignment = alignment(c.matrix),
                  .addend_alignment = alignment(addend),
                  .a_transposed = a.transposed,
                  .b_transposed = b.transposed,
                  .a_type = type_of<A>(),
                  .b_type = type_of<B>(),
                  .c_type = type_of<T>(),
                  .adds = c.adds(),
                  .in_place = addend.data == c.matrix.data,
                  .has_bias = bias != nullptr,
                  .has_relu = relu,
                  .choice = choice_.value_or(-1)};
    auto found = plans_.find(key);
    if (found == plans_.end()) found = plans_.emplace(key, plan(key, a, b, c, bias, scales)).first;
    if (bias != nullptr) set(found->second.product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
    set(found->second.product, scales);
    check(multiply(found->second, found->second.algorithm, a, b, c), "cublasLtMatmul");
  }

  /// Whether every row of every matrix begins at a multiple of 16 bytes.
  template <class A, class B, class T>
  static bool is_aligned(Operand<A> a, Operand<B> b, Output<T> c) {
    return alignment(a.matrix) == 16 && alignment(b.matrix) == 16 && alignment(c.matrix) == 16 &&
           (!c.adds() || alignment(c.addend) == 16);
  }

 private:
  /// Everything that a plan for C (m, n) = A (m, k) B (k, n) depends on.
  struct Key {
    Index m, n, k;
    Index a_stride, b_stride, c_stride, addend_stride;
    std::uint32_t a_alignment, b_alignment, c_alignment, addend_alignment;  ///< Bytes.
    bool a_transposed, b_transposed;
    cudaDataType a_type, b_type, c_type;  ///< The last is that of the addend, too.
    bool adds, in_place;                  ///< Whether there is an addend, and whether it is C.
    bool has_bias, has_relu;
    int choice;  ///< The choice that take_choice() asked for, or -1.
    auto operator<=>(const Key&) const = default;
  };

  /// What cuBLASLt needs for a product. It is held by value, so there is nothing to destroy.
  struct Plan {
    cublasLtMatmulDescOpaque_t product{};
    cublasLtMatrixLayoutOpaque_t a{}, b{}, c{}, addend{};
    cublasLtMatmulAlgo_t algorithm{};
  };

  static constexpr std::size_t workspace_bytes = std::size_t{32} << 20;

  template <class A, class B, class T>
  cublasStatus_t multiply(Plan& plan, const cublasLtMatmulAlgo_t& algorithm, Operand<A> a, Operand<B> b,
                          Output<T> c) {
    const Matrix<const T> addend = c.adds() ? c.addend : Matrix<const T>(c.matrix);
    const float one = 1.0f, beta = c.adds() ? 1.0f : 0.0f;
    // cuBLASLt takes matrices as column-major, so it sees their transposes: C^T = B^T A^T.
    return cublasLtMatmul(handle_, &plan.product, &one, b.matrix.data, &plan.b, a.matrix.data, &plan.a, &beta,
                          addend.data, &plan.addend, c.matrix.data, &plan.c, &algorithm, workspace_,
                          workspace_bytes, stream_.get());
  }

  template <class T>
  static constexpr cudaDataType type_of() {
    if (std::is_same_v<T, E4M3>) return CUDA_R_8F_E4M3;
    if (std::is_same_v<T, E5M2>) return CUDA_R_8F_E5M2;
    return std::is_same_v<T, BFloat16> ? CUDA_R_16BF : CUDA_R_32F;
  }

  /// The alignment in bytes that all rows of a matrix share: 16, or that of a single number.
  template <class T>
  static std::uint32_t alignment(Matrix<T> matrix) {
    const std::size_t row = static_cast<std::size_t>(matrix.stride) * sizeof(T);
    return (reinterpret_cast<std::uintptr_t>(matrix.data) | row) % 16 == 0 ? 16 : sizeof(T);
  }

  static void check(cublasStatus_t status, const char* what) {
    if (status == CUBLAS_STATUS_SUCCESS) return;
    throw Error(std::string("the GPU failed in ") + what + ": " + cublasLtGetStatusString(status));
  }

  template <class Value>
  static void set(cublasLtMatmulDescOpaque_t& product, cublasLtMatmulDescAttributes_t attribute,
                  Value value) {
    check(cublasLtMatmulDescSetAttribute(&product, attribute, &value, sizeof(value)),
          "cublasLtMatmulDescSetAttribute");
  }

  static void set(cublasLtMatmulDescOpaque_t& product, FactorScales scales) {
    // The first factor that cuBLASLt sees is B^T.
    if (scales.b != nullptr) set(product, CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, scales.b);
    if (scales.a != nullptr) set(product, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, scales.a);
  }

  /// Takes cuBLASLt's first choice, which depends on nothing but the sizes and the GPU. For a long product
  /// that only overwrites, takes the fastest of the choices that give the same bits instead: it may differ
  /// from run to run, but the result does not. benchmarks/gpu/products.cu measures the other choices.
  template <class A, class B, class T>
  Plan plan(const Key& key, Operand<A> a, Operand<B> b, Output<T> c, const T* bias, FactorScales scales) {
    Plan plan;
    check(cublasLtMatmulDescInit(&plan.product, CUBLAS_COMPUTE_32F, CUDA_R_32F), "cublasLtMatmulDescInit");
    // The first factor that cuBLASLt sees is B^T.
    set(plan.product, CUBLASLT_MATMUL_DESC_TRANSA, key.b_transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
    set(plan.product, CUBLASLT_MATMUL_DESC_TRANSB, key.a_transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
    set(plan.product, CUBLASLT_MATMUL_DESC_EPILOGUE,
        key.has_bias ? (key.has_relu ? CUBLASLT_EPILOGUE_RELU_BIAS : CUBLASLT_EPILOGUE_BIAS)
                     : (key.has_relu ? CUBLASLT_EPILOGUE_RELU : CUBLASLT_EPILOGUE_DEFAULT));
    if (key.has_bias) {
      set(plan.product, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, key.c_type);
      set(plan.product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
    }
    set(plan.product, scales);
    const auto layout = [](cublasLtMatrixLayoutOpaque_t& layout, cudaDataType type, Index rows, Index cols,
                           bool transposed, Index stride) {
      // The stored rows of a row-major matrix are columns to cuBLASLt.
      if (transposed) std::swap(rows, cols);
      check(cublasLtMatrixLayoutInit(&layout, type, static_cast<std::uint64_t>(cols),
                                     static_cast<std::uint64_t>(rows), stride),
            "cublasLtMatrixLayoutInit");
    };
    layout(plan.a, key.a_type, key.m, key.k, key.a_transposed, key.a_stride);
    layout(plan.b, key.b_type, key.k, key.n, key.b_transposed, key.b_stride);
    layout(plan.c, key.c_type, key.m, key.n, false, key.c_stride);
    layout(plan.addend, key.c_type, key.m, key.n, false, key.addend_stride);

    cublasLtMatmulPreferenceOpaque_t preference{};
    check(cublasLtMatmulPreferenceInit(&preference), "cublasLtMatmulPreferenceInit");
    const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
      check(cublasLtMatmulPreferenceSetAttribute(&preference, attribute, &value, sizeof(value)),
            "cublasLtMatmulPreferenceSetAttribute");
    };
    prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, workspace_bytes);
    // Parts of a split sum are added in float, in a separate step: the other schemes round the parts to the
    // output's type. If the output alone has a tile for every multiprocessor, that step costs more than
    // splitting saves.
    constexpr Index tile = 128 * 128;
    prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
           key.m * key.n < tile * stream_.multiprocessors()
               ? std::uint32_t{CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE}
               : std::uint32_t{CUBLASLT_REDUCTION_SCHEME_NONE});
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, key.b_alignment);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, key.a_alignment);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, key.addend_alignment);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, key.c_alignment);
    std::array<cublasLtMatmulHeuristicResult_t, max_choices> choices{};
    int found = 0;
    check(cublasLtMatmulAlgoGetHeuristic(handle_, &plan.product, &plan.b, &plan.a, &plan.addend, &plan.c,
                                         &preference, max_choices, choices.data(), &found),
          "cublasLtMatmulAlgoGetHeuristic");
    // The results whose state is not a success are not valid.
    const auto end = std::remove_if(choices.begin(), choices.begin() + found,
                                    [](const auto& choice) { return choice.state != CUBLAS_STATUS_SUCCESS; });
    const auto usable = static_cast<int>(end - choices.begin());
    if (usable == 0) {
      throw Error("cuBLASLt has no product of " + std::to_string(key.m) + " x " + std::to_string(key.k) +
                  " by " + std::to_string(key.k) + " x " + std::to_string(key.n));
    }
    plan.algorithm = choices[std::clamp(key.choice, 0, usable - 1)].algo;
    constexpr Index few_operations = 5'000'000'000;  // a shorter product is not worth timing
    const bool overwrites = !c.adds() || c.addend.data != c.matrix.data;
    if (key.choice < 0 && overwrites && key.m * key.n * key.k >= few_operations) {
      take_fastest(plan, choices, usable, a, b, c);
    }
    return plan;
  }

  /// Times the choices that give the same bits as the first and keeps the fastest. Also leaves the product in
  /// c.
  template <class A, class B, class T>
  void take_fastest(Plan& plan, const std::array<cublasLtMatmulHeuristicResult_t, max_choices>& choices,
                    int usable, Operand<A> a, Operand<B> b, Output<T> c) {
    constexpr int rounds = 5;
    std::vector<const cublasLtMatmulAlgo_t*> same;
    unsigned long long first_sum = 0;
    for (int n = 0; n < usable; ++n) {
      const cublasLtMatmulAlgo_t& algorithm = choices[n].algo;
      // Equal bits prove nothing for a sum of another number of parts: all-zero inputs, say, always agree.
      if (parts_of_sum(algorithm) != parts_of_sum(choices[0].algo)) continue;
      // A choice may be unable to add a matrix, or to add another one than C: cuBLASLt is not told about the
      // addend when it makes the choices. Only the first one must work.
      const cublasStatus_t status = multiply(plan, algorithm, a, b, c);
      if (n == 0) check(status, "cublasLtMatmul");
      if (status != CUBLAS_STATUS_SUCCESS) continue;
      const unsigned long long sum = checksum(c.matrix);
      if (n == 0) first_sum = sum;
      if (sum == first_sum) same.push_back(&algorithm);
    }
    std::vector<float> times(same.size(), std::numeric_limits<float>::infinity());
    for (int round = 0; round < rounds; ++round) {
      for (std::size_t n = 0; n < same.size(); ++n) {
        times[n] = std::min(times[n], stream_.milliseconds([&] { multiply(plan, *same[n], a, b, c); }));
      }
    }
    plan.algorithm = *same[std::min_element(times.begin(), times.end()) - times.begin()];
  }

  static int parts_of_sum(const cublasLtMatmulAlgo_t& algorithm) {
    int parts = 0;
    std::size_t written = 0;
    check(cublasLtMatmulAlgoConfigGetAttribute(&algorithm, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &parts,
                                               sizeof(parts), &written),
          "cublasLtMatmulAlgoConfigGetAttribute");
    return parts;
  }

  template <class T>
  unsigned long long checksum(Matrix<T> matrix) {
    using Bits = std::conditional_t<sizeof(T) == 2, std::uint16_t, std::uint32_t>;
    constexpr Index max_blocks = 1024;
    stream_.fill_zero(checksum_, sizeof(*checksum_));
    stream_.launch(checksum_kernel<Bits>, std::min(matrix.rows, max_blocks), 256, 0,
                   Matrix<const Bits>(reinterpret_cast<const Bits*>(matrix.data), matrix.rows, matrix.cols,
                                      matrix.stride),
                   checksum_);
    unsigned long long sum = 0;
    stream_.copy_to_host(&sum, checksum_, sizeof(sum));
    return sum;
  }

  Stream& stream_;
  cublasLtHandle_t handle_ = nullptr;
  void* workspace_ = nullptr;
  unsigned long long* checksum_ = nullptr;
  std::optional<int> choice_;
  std::map<Key, Plan> plans_;
};

}  // namespace lnfree::cuda
