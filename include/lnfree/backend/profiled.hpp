#pragma once

#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <type_traits>

#include <lnfree/backend/primitives.hpp>
#include <lnfree/backend/work.hpp>
#include <lnfree/core/concepts.hpp>
#include <lnfree/core/recording.hpp>
#include <lnfree/core/tensor.hpp>

namespace lnfree::profiled {

/// Time and work of the primitives of a device, by primitive and sizes, from start() to stop().
class Profile {
 public:
  /// What is known of one primitive.
  struct Entry {
    /// How often it ran.
    std::int64_t calls = 0;
    /// How long it took, in all.
    double seconds = 0;
    /// What it had to do, in all.
    Work work;
  };

  /// Forgets what it knows.
  void start() {
    entries_.clear();
    runs_ = true;
  }
  /// Times nothing any more.
  void stop() { runs_ = false; }
  /// Whether primitives are timed.
  bool runs() const { return runs_; }

  /// Adds a call of the primitive `name`.
  void add(const std::string& name, const Work& work, double seconds) {
    Entry& entry = entries_[name];
    ++entry.calls;
    entry.seconds += seconds;
    entry.work += work;
  }

  /// All primitives that ran, by name.
  const std::map<std::string, Entry>& entries() const { return entries_; }

 private:
  std::map<std::string, Entry> entries_;
  bool runs_ = false;
};

inline std::string by(Index a, Index b) {
  return std::to_string(a) + " x " + std::to_string(b);
}
template <class T>
std::string sizes(const Matrix<T>& m) {
  return std::string(" ").append(by(m.rows, m.cols));  // of " " + text g++ 12 warns without cause
}
inline std::string sizes(AttentionShape s) {
  return std::string(" ").append(by(s.batch, s.heads)) + " heads of " + by(s.length, s.head_dim);
}

/// The sizes of a matrix product: (m, k) times (k, n).
struct ProductShape {
  /// Rows, columns, and the length of each sum.
  Index m, n, k;
  /// Which factors are stored transposed.
  bool a_transposed, b_transposed;
};
inline std::string sizes(ProductShape s) {
  return " " + by(s.m, s.n) + " x " + std::to_string(s.k) + (s.a_transposed ? " A^T" : "") +
         (s.b_transposed ? " B^T" : "");
}

/// What is accounted for together whatever its size.
struct AllSizes {};
inline constexpr AllSizes all_sizes;
inline std::string sizes(AllSizes) {
  return "";
}

/// A device that does what `Base` does and, while its profile runs, keeps account of it: the device of a
/// Decoder<..., Profiled<Cpu>, ...> tells where the time of its steps goes. Each primitive is waited for
/// then, so that its time is its own: on a GPU the whole takes longer than it would without.
template <class Base>
struct Profiled : Base {
  /// What its primitives took.
  Profile profile;

  /// Calls body(), which asks this device for `work` on something of the size of `operand`, and returns its
  /// result.
  template <class Sized, class Body>
  auto measure(const char* primitive, const Sized& operand, const Work& work, const Body& body) {
    if (!profile.runs()) return body();
    using Clock = std::chrono::steady_clock;
    const Clock::time_point start = Clock::now();
    const auto account = [&] {
      synchronize(static_cast<Base&>(*this));
      const std::chrono::duration<double> time = Clock::now() - start;
      profile.add(primitive + sizes(operand), work, time.count());
    };
    if constexpr (std::is_void_v<decltype(body())>) {
      body();
      account();
    } else {
      const auto result = body();
      account();
      return result;
    }
  }
};

template <class Base, class T, class... Rest>
void product(Profiled<Base>& device, const Operand<typename Base::Scalar>& a,
             const Operand<typename Base::Scalar>& b, const Output<T>& c, const Rest&... rest) {
  const ProductShape shape{a.rows(), b.cols(), a.cols(), a.transposed, b.transposed};
  device.measure("gemm", shape, work::gemm<typename Base::Scalar, T>(shape.m, shape.n, shape.k, c.adds()),
                 [&] { gemm(static_cast<Base&>(device), a, b, c, rest...); });
}

template <class Base>
void gemm(Profiled<Base>& device, Operand<typename Base::Scalar> a, Operand<typename Base::Scalar> b,
          Output<typename Base::Scalar> c) {
  product(device, a, b, c);
}
template <class Base>
void gemm(Profiled<Base>& device, Operand<typename Base::Scalar> a, Operand<typename Base::Scalar> b,
          Output<typename Base::Accumulator> c)
requires(!std::same_as<typename Base::Scalar, typename Base::Accumulator>)
{
  product(device, a, b, c);
}

template <class Base, class A>
void gemm(Profiled<Base>& device, Operand<typename Base::Scalar> a, Operand<typename Base::Scalar> b,
          Output<typename Base::Scalar> c, Epilogue<typename Base::Scalar, A> epilogue)
requires HasEpilogue<Base, A>
{
  product(device, a, b, c, epilogue);
}

template <class Base>
void bias_forward(Profiled<Base>& device, Matrix<typename Base::Scalar> y,
                  const typename Base::Scalar* bias) {
  device.measure("bias_forward", y, work::elementwise<typename Base::Scalar>(y.size(), 1, 1, true),
                 [&] { bias_forward(static_cast<Base&>(device), y, bias); });
}
template <class Base>
void bias_backward(Profiled<Base>& device, Matrix<const typename Base::Scalar> d_y,
                   typename Base::Accumulator* d_bias) {
  device.measure("bias_backward", d_y, work::reduction<typename Base::Scalar>(d_y.size(), 1),
                 [&] { bias_backward(static_cast<Base&>(device), d_y, d_bias); });
}

/// The operations of a norm are its own affair: only its bytes are counted.
template <class Base, class N>
void norm_forward(Profiled<Base>& device, N norm, Matrix<const typename Base::Scalar> x,
                  NormPointers<const typename Base::Scalar, N> parameters, Output<typename Base::Scalar> y,
                  NormRow<typename Base::Accumulator>* rows) {
  device.measure("norm_forward", x, work::elementwise<typename Base::Scalar>(x.size(), 1, 0, y.adds()),
                 [&] { norm_forward(static_cast<Base&>(device), norm, x, parameters, y, rows); });
}
template <class Base, class N>
void norm_backward(Profiled<Base>& device, N norm, Matrix<const typename Base::Scalar> x,
                   NormPointers<const typename Base::Scalar, N> parameters,
                   const NormRow<typename Base::Accumulator>* rows, Matrix<const typename Base::Scalar> d_y,
                   Output<typename Base::Scalar> d_x,
                   NormPointers<typename Base::Accumulator, N> d_parameters) {
  device.measure(
      "norm_backward", x, work::elementwise<typename Base::Scalar>(x.size(), 2, 0, d_x.adds()),
      [&] { norm_backward(static_cast<Base&>(device), norm, x, parameters, rows, d_y, d_x, d_parameters); });
}

/// The operations of an activation are its own affair: only its bytes are counted.
template <class Base, class A>
void activation_forward(Profiled<Base>& device, A activation, Matrix<const typename Base::Scalar> x,
                        const typename Base::Scalar* parameter, Matrix<typename Base::Scalar> y) {
  device.measure("activation_forward", x,
                 work::elementwise<typename Base::Scalar>(x.size(), 1, 0, x.data == y.data),
                 [&] { activation_forward(static_cast<Base&>(device), activation, x, parameter, y); });
}
template <class Base, class A>
void activation_backward(Profiled<Base>& device, A activation, Matrix<const typename Base::Scalar> saved,
                         const typename Base::Scalar* parameter, Matrix<typename Base::Scalar> d_y,
                         typename Base::Accumulator* d_parameter) {
  device.measure(
      "activation_backward", saved, work::elementwise<typename Base::Scalar>(saved.size(), 2, 0, true), [&] {
        activation_backward(static_cast<Base&>(device), activation, saved, parameter, d_y, d_parameter);
      });
}

template <class Base>
Index attention_workspace(Profiled<Base>& device, AttentionShape shape) {
  return attention_workspace(static_cast<Base&>(device), shape);
}
template <class Base, class Entropies>
void attention_forward(Profiled<Base>& device, AttentionShape shape, Matrix<const typename Base::Scalar> qkv,
                       Matrix<typename Base::Scalar> y, typename Base::Accumulator* log_sum,
                       typename Base::Accumulator* workspace, Entropies entropies) {
  constexpr bool observed = !std::same_as<Entropies, Unobserved>;
  device.measure(
      "attention_forward", shape, work::attention_forward<typename Base::Scalar>(shape, observed),
      [&] { attention_forward(static_cast<Base&>(device), shape, qkv, y, log_sum, workspace, entropies); });
}
template <class Base, class Gradients>
void attention_backward(Profiled<Base>& device, AttentionShape shape, Matrix<const typename Base::Scalar> qkv,
                        Matrix<const typename Base::Scalar> y, const typename Base::Accumulator* log_sum,
                        Matrix<const typename Base::Scalar> d_y, Matrix<typename Base::Scalar> d_qkv,
                        typename Base::Accumulator* workspace, Gradients entropies) {
  device.measure("attention_backward", shape, work::attention_backward<typename Base::Scalar>(shape), [&] {
    attention_backward(static_cast<Base&>(device), shape, qkv, y, log_sum, d_y, d_qkv, workspace, entropies);
  });
}

template <class Base>
void entropy_sums(Profiled<Base>& device, Matrix<const typename Base::Accumulator> rows,
                  typename Base::Accumulator* sums, std::int32_t* finite_rows) {
  device.measure("entropy_sums", rows, work::reduction<typename Base::Accumulator>(rows.size(), 1),
                 [&] { entropy_sums(static_cast<Base&>(device), rows, sums, finite_rows); });
}
template <class Base>
void entropy_penalty(Profiled<Base>& device, const EntropyPenalty& penalty, int heads,
                     Matrix<const typename Base::Accumulator> rows, const typename Base::Scalar* thresholds,
                     typename Base::Accumulator* sums, Matrix<typename Base::Accumulator> d_rows,
                     typename Base::Accumulator* d_thresholds) {
  device.measure("entropy_penalty", rows,
                 work::elementwise<typename Base::Accumulator>(rows.size(), 1, 6, false), [&] {
                   entropy_penalty(static_cast<Base&>(device), penalty, heads, rows, thresholds, sums, d_rows,
                                   d_thresholds);
                 });
}

/// Six operations for each pair of channels.
template <class Base>
void rotary(Profiled<Base>& device, AttentionShape shape, int dims, Matrix<typename Base::Scalar> qkv,
            bool inverse) {
  device.measure("rotary", shape,
                 work::elementwise<typename Base::Scalar>(shape.rows() * 2 * shape.heads * dims, 1, 3, true),
                 [&] { rotary(static_cast<Base&>(device), shape, dims, qkv, inverse); });
}

template <class Base>
void column_squares(Profiled<Base>& device, Matrix<const typename Base::Scalar> x,
                    typename Base::Accumulator* sums) {
  device.measure("column_squares", x, work::reduction<typename Base::Scalar>(x.size(), 2),
                 [&] { column_squares(static_cast<Base&>(device), x, sums); });
}
template <class Base>
Index count_zeros(Profiled<Base>& device, Matrix<const typename Base::Scalar> x) {
  return device.measure("count_zeros", x, work::reduction<typename Base::Scalar>(x.size(), 1),
                        [&] { return count_zeros(static_cast<Base&>(device), x); });
}

template <class Base>
void embedding_forward(Profiled<Base>& device, BatchShape shape, const std::int32_t* tokens,
                       Matrix<const typename Base::Scalar> token_table,
                       Matrix<const typename Base::Scalar> position_table, Matrix<typename Base::Scalar> x) {
  device.measure("embedding_forward", x, work::embedding_forward<typename Base::Scalar>(x.size()), [&] {
    embedding_forward(static_cast<Base&>(device), shape, tokens, token_table, position_table, x);
  });
}
template <class Base>
void embedding_backward(Profiled<Base>& device, BatchShape shape, const std::int32_t* tokens,
                        Matrix<const typename Base::Scalar> d_x,
                        Matrix<typename Base::Accumulator> d_token_table,
                        Matrix<typename Base::Accumulator> d_position_table) {
  device.measure("embedding_backward", d_x, work::embedding_backward<typename Base::Scalar>(d_x.size()), [&] {
    embedding_backward(static_cast<Base&>(device), shape, tokens, d_x, d_token_table, d_position_table);
  });
}

template <class Base>
void dropout(Profiled<Base>& device, Matrix<typename Base::Scalar> x, double rate, Philox random) {
  device.measure("dropout", x, work::dropout<typename Base::Scalar>(x.size()),
                 [&] { dropout(static_cast<Base&>(device), x, rate, random); });
}

template <class Base>
void cross_entropy_forward(Profiled<Base>& device, Matrix<const typename Base::Scalar> logits,
                           const std::int32_t* targets, typename Base::Accumulator* losses) {
  device.measure("cross_entropy_forward", logits,
                 work::cross_entropy_forward<typename Base::Scalar>(logits.size()),
                 [&] { cross_entropy_forward(static_cast<Base&>(device), logits, targets, losses); });
}
template <class Base>
void cross_entropy_forward_backward(Profiled<Base>& device, Matrix<typename Base::Scalar> logits,
                                    const std::int32_t* targets, typename Base::Accumulator* losses,
                                    double gradient_scale) {
  device.measure("cross_entropy_forward_backward", logits,
                 work::cross_entropy_forward_backward<typename Base::Scalar>(logits.size()), [&] {
                   cross_entropy_forward_backward(static_cast<Base&>(device), logits, targets, losses,
                                                  gradient_scale);
                 });
}

/// An elementwise function is accounted for under its own name and operations where it tells them.
template <class F, class... T>
Work work_of(Index count) {
  Work work = work::elements<T...>(count);
  if constexpr (requires { F::operations; }) work.operations = F::operations * static_cast<double>(count);
  return work;
}
template <class F>
constexpr const char* name_of(const char* primitive) {
  if constexpr (requires { F::name; }) return F::name;
  return primitive;
}

template <class Base, class F, class... T>
void for_each_element(Profiled<Base>& device, Index count, const F& f, T*... at) {
  device.measure(name_of<F>("for_each_element"), all_sizes, work_of<F, T...>(count),
                 [&] { for_each_element(static_cast<Base&>(device), count, f, at...); });
}
template <class Base, class F, class... T>
double sum_of(Profiled<Base>& device, Index count, const F& f, T*... at) {
  return device.measure(name_of<F>("sum_of"), all_sizes, work_of<F, const T...>(count),
                        [&] { return sum_of(static_cast<Base&>(device), count, f, at...); });
}

}  // namespace lnfree::profiled

namespace lnfree {

/// Work that a device has recorded is done as a whole: while the profile runs it is asked for anew.
template <class Base, class Key>
class Recording<profiled::Profiled<Base>, Key> {
 public:
  /// Runs `body` as it is: what is timed is not recorded.
  template <class Body>
  void run(profiled::Profiled<Base>& device, const Key& key, const Body& body) {
    if (device.profile.runs()) {
      body();
    } else {
      recording_.run(device, key, body);
    }
  }

 private:
  Recording<Base, Key> recording_;
};

using profiled::Profile;
using profiled::Profiled;
}  // namespace lnfree
