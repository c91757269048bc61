#pragma once

#include <utility>

#include <lnfree/core/tensor.hpp>
#include <lnfree/device/cuda/device.hpp>
#include <lnfree/device/cuda/packs.hpp>
#include <lnfree/device/cuda/reduce.hpp>

/// How the kernel that computes a matrix rounds it as well, if the matrix is a factor of a product in eight
/// bits. Then no other kernel has to read it for that.
///
/// A kernel has a parameter of a type such as NoRounding. Each thread has a copy of it, and calls
///
///   begin()             before its first pack
///   take(stored)        for each pack that it has stored
///   end_row<N>(i)       together with its warp, when that has stored row i: lane l the packs l, l + 32, ...
///   end()               together with its warp, after the last pack
///
/// Kernels that store packs in another order leave out end_row(). A rounding with `whole_rows` cannot be used
/// in them. Which rounding a kernel gets is for the device to say: rounding_of().
namespace lnfree::cuda {

/// Which factor a matrix is: x in x W, or d_y in d_y W^T.
enum class FactorKind { input, gradient };

/// The order in which a kernel stores packs: any, or whole rows as end_row() expects them.
enum class PackOrder { any, rows };

/// Of a matrix that is stored as it is.
struct NoRounding {
  static constexpr bool whole_rows = false;

  bool is_on() const { return false; }
  __device__ void begin() {}
  template <int N, class S>
  __device__ void take(const Stored<N, S>&) {}
  template <int N>
  __device__ void end_row(Index) {}
  __device__ void end() {}
};

/// The rounding of `made`, which the caller stores in packs of N right after this call. Devices that multiply
/// in eight bits have their own (eight_bit_products.hpp).
template <FactorKind, int N, PackOrder, class S>
NoRounding rounding_of(Gpu&, Matrix<const S> /*made*/) {
  return {};
}

/// The type of rounding_of().
template <FactorKind Kind, int N, PackOrder Order, class D>
using RoundingOf = decltype(rounding_of<Kind, N, Order>(std::declval<D&>(),
                                                        std::declval<Matrix<const typename D::Scalar>>()));

/// The body of an elementwise kernel whose at() returns what it has stored, extended to round it in any order
/// of the packs. If the rounding is on, all threads of a warp must have a pack.
template <class Body, class Rounding>
struct AndRound : Body {
  Rounding rounding;

  template <int N, class... Sums>
  __device__ void at(Index i, Index j, Sums&... sums) const {
    Rounding mine = rounding;
    mine.begin();
    mine.take(Body::template at<N>(i, j, sums...));
    mine.end();
  }
};

/// Like elementwise_kernel with a warp for each row.
template <int N, class Body, class Rounding>
__global__ void __launch_bounds__(elementwise_threads)
    row_by_row_kernel(Index rows, Index cols, Body body, Rounding rounding) {
  const Index i = static_cast<Index>(blockIdx.x) * (elementwise_threads / 32) + threadIdx.x / 32;
  if (i >= rows) return;
  rounding.begin();
  for (Index j = static_cast<Index>(threadIdx.x % 32) * N; j < cols; j += 32 * N)
    rounding.take(body.template at<N>(i, j));
  rounding.template end_row<N>(i);
  rounding.end();
}

/// Computes `made` element by element from `from`, and rounds it if the device has a rounding for it.
/// body_of(from, made) is the body of an elementwise kernel, whose at() returns what it has stored. With
/// `sum`, the body adds to a sum, which is added to *sum. Its order depends on the sizes alone, so that it is
/// the same where the matrix is not rounded.
template <FactorKind Kind, CudaDevice D, class BodyOf, class... Sum>
void compute_elementwise(D& device, Matrix<const typename D::Scalar> from, Matrix<typename D::Scalar> made,
                         const BodyOf& body_of, Sum*... sum) {
  using S = typename D::Scalar;
  using Body = decltype(body_of(from, made));
  const Matrix<const S> factor = made;
  Matrix<const S> flat_from = from;
  Matrix<S> flat = made;
  as_one_row(flat_from, flat);
  with_packs<pack_size<S>>(
      [&](auto n) {
        using OfRows = RoundingOf<Kind, n(), PackOrder::rows, D>;
        if constexpr (OfRows::whole_rows && sizeof...(Sum) == 0) {
          const OfRows rounding = rounding_of<Kind, n(), PackOrder::rows>(device, factor);
          if (rounding.is_on()) {
            constexpr Index rows_per_block = elementwise_threads / 32;
            device.stream().launch(row_by_row_kernel<n(), Body, OfRows>,
                                   (made.rows + rows_per_block - 1) / rows_per_block, elementwise_threads, 0,
                                   made.rows, made.cols, body_of(from, made), rounding);
            return;
          }
        }
        RoundingOf<Kind, n(), PackOrder::any, D> rounding{};
        // A factor's size is a multiple of what a warp has. In a single row no warp has less.
        if (flat.rows == 1) rounding = rounding_of<Kind, n(), PackOrder::any>(device, factor);
        const AndRound<Body, decltype(rounding)> body{body_of(flat_from, flat), rounding};
        if constexpr (sizeof...(Sum) > 0) {
          for_each_pack_and_sum<n(), 1>(device, flat.rows, flat.cols, body, {sum...});
        } else {
          for_each_pack<n()>(device.stream(), flat.rows, flat.cols, body);
        }
      },
      flat_from, flat);
}

}  // namespace lnfree::cuda
