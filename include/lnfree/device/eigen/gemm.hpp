#pragma once

#include <type_traits>

#include <lnfree/core/tensor.hpp>
#include <lnfree/device/eigen/device.hpp>
#include <lnfree/device/eigen/product.hpp>

namespace lnfree::eigen {

template <class S>
void gemm(EigenCpu<S>&, std::type_identity_t<Operand<S>> a, std::type_identity_t<Operand<S>> b,
          std::type_identity_t<Output<S>> c) {
  product_on_all_threads(a, b, c);
}

}  // namespace lnfree::eigen
