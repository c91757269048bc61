#pragma once

#include <omp.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <deque>
#include <limits>
#include <map>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include <boost/test/unit_test.hpp>

#ifdef LNFREE_TEST_BF16
#include <lnfree/device/cpu/bf16.hpp>
#endif
#ifdef LNFREE_TEST_CUDA
#include <lnfree/device/cuda/cuda.hpp>
#else
#include <lnfree/device/cpu/cpu.hpp>
#endif
#include <lnfree/core/memory.hpp>
#include <lnfree/core/random.hpp>
#include <lnfree/device/cores.hpp>

#include "support/reference.hpp"
#include "support/seed.hpp"

/// The harness of the primitives' tests. A case is a generic function of a workbench: it requests inputs,
/// calls a primitive on the workbench's device and names its results. check() runs it on a device and on
/// Reference<double>, and compares.
namespace lnfree::test {

/// The devices that are compared with the oracle; add the tag of a new one.
#ifdef LNFREE_TEST_BF16
using Devices = std::tuple<CpuBF16>;
using Input = BFloat16;
#elif defined(LNFREE_TEST_CUDA)
using Devices = std::tuple<Cuda, CudaFp32>;
using AndTheOracle = Devices;
using Input = BFloat16;
#elif defined(LNFREE_TEST_CPU_ALONE)
using Devices = std::tuple<Cpu>;
using Input = float;
#else
using Devices = std::tuple<Cpu, Reference<float>>;
using Input = float;
#endif
/// These and the oracle itself, for comparison with formulas.
#ifndef LNFREE_TEST_CUDA
using AndTheOracle = std::tuple<Cpu, Reference<float>, Reference<double>>;
#endif

/// What an Output adds to the result: nothing, the content of its matrix, or another matrix.
enum class Added { nothing, itself, another };
inline std::string name(Added added) {
  return added == Added::nothing ? "" : added == Added::itself ? ", added to itself" : ", added to another";
}

/// Numbers copied to the host. `size` is the typical magnitude of an element without cancellation; if given,
/// errors are relative to it.
struct Result {
  std::string name;
  std::vector<double> values;
  double size = 0;
};

/// A device for one run of a case. Creating a GPU's handles takes longer than most cases, so they are created
/// once.
template <class D>
D make_device() {
#ifdef LNFREE_TEST_CUDA
  if constexpr (std::derived_from<D, cuda::Gpu>) {
    static const D device;
    return device;
  }
#endif
  return D();
}

/// Normal numbers, at least `count`, which depend only on the seed, the name and the deviation. They are kept
/// for the next run of a case, because drawing them takes longer than many primitives do.
inline const std::vector<float>& normal_numbers(std::uint64_t seed, std::string_view name, double std,
                                                Index count) {
  static std::map<std::tuple<std::uint64_t, std::string, std::uint64_t>, std::vector<float>> kept;
  const auto bits = std::bit_cast<std::uint64_t>(std);  // which have an order even for NaN
  std::vector<float>& numbers = kept[{seed, std::string(name), bits}];
  if (std::ssize(numbers) < count) {
    numbers.resize(static_cast<std::size_t>(count));
    fill_normal(numbers.data(), count, std, Philox(seed, stream_of(name)));
  }
  return numbers;
}

/// Device memory for one run of a case. Inputs depend only on the seed and their name, and are rounded to
/// what every device can store, so that all devices get the same ones. All other memory is NaN.
template <class D>
class Workbench {
 public:
  using Scalar = typename D::Scalar;
  using Accumulator = typename D::Accumulator;

  explicit Workbench(std::uint64_t seed) : seed_(seed) {}

  D& device() { return device_; }

  /// Normal numbers. With `stride`, that many columns are in memory, and those beyond `cols` are NaN.
  Matrix<Scalar> scalars(std::string_view name, Index rows, Index cols, double std = 1, Index stride = 0) {
    return normal<Scalar>(name, rows, cols, std, stride);
  }
  Matrix<Accumulator> accumulators(std::string_view name, Index rows, Index cols, double std = 1,
                                   Index stride = 0) {
    return normal<Accumulator>(name, rows, cols, std, stride);
  }

  /// Memory that a primitive must overwrite.
  Matrix<Scalar> poisoned_scalars(Index rows, Index cols, Index stride = 0) {
    return poisoned<Scalar>(rows, cols, stride);
  }
  Matrix<Accumulator> poisoned_accumulators(Index rows, Index cols, Index stride = 0) {
    return poisoned<Accumulator>(rows, cols, stride);
  }

  /// An output for a primitive's result.
  Output<Scalar> scalar_output(Added added, std::string_view name, Index rows, Index cols, Index stride = 0) {
    return output<Scalar>(added, name, rows, cols, stride);
  }
  Output<Accumulator> accumulator_output(Added added, std::string_view name, Index rows, Index cols,
                                         Index stride = 0) {
    return output<Accumulator>(added, name, rows, cols, stride);
  }

  Matrix<Scalar> scalars(const std::vector<double>& values, Index rows, Index cols) {
    std::vector<Scalar> host;
    for (const double value : values) host.push_back(static_cast<Scalar>(round(value)));
    return upload(host, rows, cols);
  }
  Matrix<Accumulator> accumulators(const std::vector<double>& values, Index rows, Index cols) {
    return upload(std::vector<Accumulator>(values.begin(), values.end()), rows, cols);
  }
  std::int32_t* integers(const std::vector<std::int32_t>& values) {
    return upload(values, 1, static_cast<Index>(values.size())).data;
  }
  /// Integers of [low, high).
  std::int32_t* integers(std::string_view name, Index count, std::int32_t low, std::int32_t high) {
    std::vector<std::int32_t> values(static_cast<std::size_t>(count));
    const Philox random(seed_, stream_of(name));
    for (std::size_t i = 0; i < values.size(); ++i) {
      values[i] = low + static_cast<std::int32_t>(random(i)[0] % static_cast<std::uint32_t>(high - low));
    }
    return integers(values);
  }

  /// Memory of any type, NaN or -1.
  template <class T>
  T* raw(Index count) {
    Buffer<D>& buffer = buffers_.emplace_back(device_, static_cast<std::size_t>(count) * sizeof(T));
    const std::vector<unsigned char> ones(buffer.bytes(), 0xff);
    if (!ones.empty()) copy_to_device(device_, buffer.data(), ones.data(), ones.size());
    return static_cast<T*>(buffer.data());
  }

  /// Records a tensor for comparison, including the memory beyond its columns.
  template <class T>
  void result(std::string name, Matrix<T> matrix, double size = 0) {
    result(std::move(name), static_cast<const T*>(matrix.data), matrix.rows * matrix.stride, size);
  }
  template <class T>
  void result(std::string name, const T* data, Index count, double size = 0) {
    const std::vector<T> host = download(data, count);
    results_.push_back({std::move(name), std::vector<double>(host.begin(), host.end()), size});
  }
  void result(std::string name, double value, double size = 0) {
    results_.push_back({std::move(name), {value}, size});
  }

  template <class T>
  std::vector<T> download(const T* data, Index count) {
    std::vector<T> host(static_cast<std::size_t>(count));
    copy_to_host(device_, host.data(), data, host.size() * sizeof(T));
    return host;
  }

  const std::vector<Result>& results() const { return results_; }

 private:
  static float round(double value) {
    return static_cast<float>(static_cast<Input>(static_cast<float>(value)));
  }

  template <class T>
  Matrix<T> normal(std::string_view name, Index rows, Index cols, double std, Index stride) {
    stride = stride == 0 ? cols : stride;
    const std::vector<float>& values = normal_numbers(seed_, name, std, rows * cols);
    std::vector<T> host(static_cast<std::size_t>(rows * stride),
                        static_cast<T>(std::numeric_limits<float>::quiet_NaN()));
    for (Index i = 0; i < rows; ++i) {
      for (Index j = 0; j < cols; ++j) host[i * stride + j] = static_cast<T>(round(values[i * cols + j]));
    }
    return {upload(host, rows, stride).data, rows, cols, stride};
  }

  template <class T>
  Output<T> output(Added added, std::string_view name, Index rows, Index cols, Index stride) {
    if (added == Added::nothing) return poisoned<T>(rows, cols, stride);
    const Matrix<T> before = normal<T>(name, rows, cols, 1, stride);
    if (added == Added::itself) return accumulate(before);
    return {poisoned<T>(rows, cols, stride == 0 ? 0 : stride + 1), before};
  }

  template <class T>
  Matrix<T> poisoned(Index rows, Index cols, Index stride) {
    stride = stride == 0 ? cols : stride;
    return {raw<T>(rows * stride), rows, cols, stride};
  }

  template <class T>
  Matrix<T> upload(const std::vector<T>& host, Index rows, Index cols) {
    T* data = raw<T>(static_cast<Index>(host.size()));
    copy_to_device(device_, data, host.data(), host.size() * sizeof(T));
    return {data, rows, cols};
  }

  D device_ = make_device<D>();
  std::uint64_t seed_;
  std::deque<Buffer<D>> buffers_;
  std::vector<Result> results_;
};

/// The error that a device may have from rounding its results.
template <class D>
inline constexpr double rounding = sizeof(typename D::Scalar) == 2 ? 1e-2 : 0;

/// Whether a device's work is done by OpenMP's threads.
template <class D>
concept UsesThreads = std::derived_from<D, Cores>;

struct Expectation {
  double tolerance = 1e-5;       ///< Of ||result - reference|| / ||reference||.
  bool any_thread_count = true;  ///< The result has the same bits for every thread count.
};

/// ||a - b|| / ||b||, with `size` as the minimum for the root mean square of b's elements; ||a|| if b is 0;
/// infinite if only one of them is NaN.
inline double distance(const std::vector<double>& a, const std::vector<double>& b, double size = 0) {
  if (a.size() != b.size()) return std::numeric_limits<double>::infinity();
  double difference = 0, norm = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (std::isnan(a[i]) && std::isnan(b[i])) continue;
    if (std::isnan(a[i]) || std::isnan(b[i])) return std::numeric_limits<double>::infinity();
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    norm += b[i] * b[i];
  }
  norm = std::max(norm, size * size * static_cast<double>(b.size()));
  return std::sqrt(norm == 0 ? difference : difference / norm);
}

template <class D, class Case>
std::vector<Result> run(const Case& body, int threads = 1) {
  const int before = omp_get_max_threads();
  omp_set_num_threads(threads);
  Workbench<D> bench(seed());
  body(bench);
  omp_set_num_threads(before);
  return bench.results();
}

/// The results of two runs of a case on one device.
struct Twice {
  std::vector<Result> first, second;
};

/// The comparison of check(), separate so that it is compiled once.
inline void compare(const std::string& label, const std::vector<Result>& reference, const Twice& one_thread,
                    const Twice& two_threads, Expectation expect) {
  LNFREE_LOG_SEED();
  const auto same = [](const Result& a, const Result& b) { return distance(a.values, b.values) == 0; };
  BOOST_REQUIRE(!reference.empty());
  for (const Twice* runs : {&one_thread, &two_threads}) {
    const std::string where = label + (runs == &one_thread ? "" : ", two threads") + ", ";
    BOOST_REQUIRE_EQUAL(reference.size(), runs->first.size());
    for (std::size_t r = 0; r < reference.size(); ++r) {
      const double error = distance(runs->first[r].values, reference[r].values, reference[r].size);
      BOOST_TEST(error <= expect.tolerance, where << reference[r].name << ": off by " << error);
      BOOST_TEST(same(runs->first[r], runs->second[r]), where << reference[r].name << ": two runs differ");
      if (expect.any_thread_count) {
        BOOST_TEST(same(one_thread.first[r], runs->first[r]),
                   where << reference[r].name << ": not what one thread gives");
      }
    }
  }
}

/// Compares a case on D with Reference<double>, and two runs on D with each other bit for bit, on one thread
/// and, if it uses threads, on two.
template <class D, class Case>
void check(const std::string& label, const Case& body, Expectation expect = {}) {
  expect.tolerance = std::max(expect.tolerance, rounding<D>);
  const auto twice = [&](int threads) { return Twice{run<D>(body, threads), run<D>(body, threads)}; };
  const Twice one_thread = twice(1);
  compare(label, run<Reference<double>>(body), one_thread, UsesThreads<D> ? twice(2) : one_thread, expect);
}

/// "T x U" for labels.
template <class... Sizes>
std::string sizes(Sizes... sizes) {
  std::string text;
  ((text += (text.empty() ? "" : " x ") + std::to_string(sizes)), ...);
  return text;
}

}  // namespace lnfree::test
