#pragma once

#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <type_traits>

#include <lnfree/core/concepts.hpp>
#include <lnfree/core/recording.hpp>
#include <lnfree/core/tensor.hpp>
#include <lnfree/device/primitives.hpp>
#include <lnfree/device/work.hpp>

namespace lnfree::profiled {

/// Time and work of the primitives of a device, by primitive and sizes, from start() to stop().
class Profile {
 public:
  /// The totals of one primitive with given sizes.
  struct Entry {
    /// Number of calls.
    std::int64_t calls = 0;
    /// Total time.
    double seconds = 0;
    /// Total work.
    Work work;
  };

  /// Clears the profile and starts timing.
  void start() {
    entries_.clear();
    runs_ = true;
  }
  /// Stops timing.
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

/// " 2 x 3". Appends, since g++ 12 gives a false warning for " " + text.
inline std::string by(Index a, Index b) {
  return std::string(" ").append(std::to_string(a)) + " x " + std::to_string(b);
}
template <class T>
std::string sizes(const Matrix<T>& m) {
  return by(m.rows, m.cols);
}
inline std::string sizes(AttentionShape s) {
  return by(s.batch, s.heads) + " heads of" + by(s.length, s.head_dim);
}

/// The sizes of a matrix product: (m, k) times (k, n).
struct ProductShape {
  /// Rows, columns, and the length of each sum.
  Index m, n, k;
  /// Which factors are stored transposed.
  bool a_transposed, b_transposed;
};
inline std::string sizes(ProductShape s) {
  return by(s.m, s.n) + " x " + std::to_string(s.k) + (s.a_transposed ? " A^T" : "") +
         (s.b_transposed ? " B^T" : "");
}

/// The device `Base` with a profile of its primitives: Decoder<..., Profiled<Cpu>, ...> shows where the time
/// of its steps goes. While the profile runs, the device is synchronized after each primitive to time it, so
/// on a GPU the whole takes longer than without.
template <class Base>
struct Profiled : Base {
  /// Time and work of its primitives.
  Profile profile;

  /// Calls body(), which runs a primitive of `Base`, and returns its result. account() gives its sizes and
  /// work for the profile.
  template <class Account, class Body>
  auto measure(const char* primitive, const Account& account, const Body& body) {
    if (!profile.runs()) return body();
    using Clock = std::chrono::steady_clock;
    const Clock::time_point start = Clock::now();
    const auto add = [&] {
      synchronize(static_cast<Base&>(*this));
      const std::chrono::duration<double> time = Clock::now() - start;
      const auto [operand, work] = account();
      profile.add(primitive + operand, work, time.count());
    };
    if constexpr (std::is_void_v<decltype(body())>) {
      body();
      add();
    } else {
      const auto result = body();
      add();
      return result;
    }
  }
};

/// The profile's record of a call.
struct Account {
  /// The sizes, part of the entry's name.
  std::string operand;
  /// Its minimal work.
  Work work;
};

/// Defines the primitive NAME for any arguments: the primitive of `Base`, measured. PARAMETERS names the
/// arguments that its sizes and its work depend on; S is the type that the device stores.
#define LNFREE_PROFILED(NAME, PARAMETERS, OPERAND, WORK)                                     \
  template <class Base, class... Arguments>                                                  \
  requires requires(Base& base, const Arguments&... arguments) { NAME(base, arguments...); } \
  auto NAME(Profiled<Base>& device, const Arguments&... arguments) {                         \
    using S [[maybe_unused]] = typename Base::Scalar;                                        \
    const auto account = [] PARAMETERS { return Account{sizes(OPERAND), work::WORK}; };      \
    return device.measure(                                                                   \
        #NAME, [&] { return account(arguments...); },                                        \
        [&] { return NAME(static_cast<Base&>(device), arguments...); });                     \
  }

LNFREE_PROFILED(bias_forward, (const auto& y, const auto&...), y, elementwise<S>(y.size(), 1, 1, true))
LNFREE_PROFILED(bias_backward, (const auto& d_y, const auto&...), d_y, reduction<S>(d_y.size(), 1))

// The operations of norms and activations are unknown here: only their bytes are counted.
LNFREE_PROFILED(norm_forward, (const auto&, const auto& x, const auto&, const Output<S>& y, const auto&...),
                x, elementwise<S>(x.size(), 1, 0, y.adds()))
LNFREE_PROFILED(norm_backward,
                (const auto&, const auto& x, const auto&, const auto&, const auto&, const Output<S>& d_x,
                 const auto&...),
                x, elementwise<S>(x.size(), 2, 0, d_x.adds()))
LNFREE_PROFILED(activation_forward, (const auto&, const auto& x, const auto&, const auto& y), x,
                elementwise<S>(x.size(), 1, 0, x.data == y.data))
LNFREE_PROFILED(activation_backward, (const auto&, const auto& saved, const auto&...), saved,
                elementwise<S>(saved.size(), 2, 0, true))

LNFREE_PROFILED(attention_forward,
                (const AttentionShape& shape, const auto&, const auto&, const auto&, const auto&,
                 const auto& entropies),
                shape,
                attention_forward<S>(shape, !std::same_as<std::decay_t<decltype(entropies)>, Unobserved>))
LNFREE_PROFILED(attention_backward, (const AttentionShape& shape, const auto&...), shape,
                attention_backward<S>(shape))
LNFREE_PROFILED(rotary, (const AttentionShape& shape, int dims, const auto&...), shape,
                elementwise<S>(shape.rows() * 2 * shape.heads * dims, 1, 3, true))
LNFREE_PROFILED(entropy_sums, (const auto& rows, const auto&...), rows,
                reduction<typename Base::Accumulator>(rows.size(), 1))
LNFREE_PROFILED(entropy_penalty, (const auto&, const auto&, const auto& rows, const auto&...), rows,
                elementwise<typename Base::Accumulator>(rows.size(), 1, 6, false))

LNFREE_PROFILED(embedding_forward, (const auto&, const auto&, const auto&, const auto&, const auto& x), x,
                embedding_forward<S>(x.size()))
LNFREE_PROFILED(embedding_backward, (const auto&, const auto&, const auto& d_x, const auto&...), d_x,
                embedding_backward<S>(d_x.size()))
LNFREE_PROFILED(dropout, (const auto& x, const auto&...), x, dropout<S>(x.size()))
LNFREE_PROFILED(cross_entropy_forward, (const auto& logits, const auto&...), logits,
                cross_entropy_forward<S>(logits.size()))
LNFREE_PROFILED(cross_entropy_forward_backward, (const auto& logits, const auto&...), logits,
                cross_entropy_forward_backward<S>(logits.size()))
LNFREE_PROFILED(column_squares, (const auto& x, const auto&...), x, reduction<S>(x.size(), 2))
LNFREE_PROFILED(count_zeros, (const auto& x), x, reduction<S>(x.size(), 1))

#undef LNFREE_PROFILED

template <class Base>
Index attention_workspace(Profiled<Base>& device, AttentionShape shape) {
  return attention_workspace(static_cast<Base&>(device), shape);
}

template <class S, class T>
Account account_of_product(Operand<S> a, Operand<S> b, Output<T> c) {
  const ProductShape shape{a.rows(), b.cols(), a.cols(), a.transposed, b.transposed};
  return {sizes(shape), work::gemm<S, T>(shape.m, shape.n, shape.k, c.adds())};
}

/// With an epilogue where the device has them, or without.
template <class Base, class T, class... Epilogues>
requires requires(Base& base, Operand<typename Base::Scalar> a, Output<T> c, const Epilogues&... epilogue) {
  gemm(base, a, a, c, epilogue...);
}
void gemm(Profiled<Base>& device, std::type_identity_t<Operand<typename Base::Scalar>> a,
          std::type_identity_t<Operand<typename Base::Scalar>> b, Output<T> c, const Epilogues&... epilogue) {
  device.measure(
      "gemm", [&] { return account_of_product(a, b, c); },
      [&] { gemm(static_cast<Base&>(device), a, b, c, epilogue...); });
}
template <class Base, class T>
void gemm(Profiled<Base>& device, std::type_identity_t<Operand<typename Base::Scalar>> a,
          std::type_identity_t<Operand<typename Base::Scalar>> b, Matrix<T> c) {
  gemm(device, a, b, Output<T>(c));
}

/// An elementwise function is recorded under its own name and operations, if it declares them.
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
  device.measure(
      name_of<F>("for_each_element"), [&] { return Account{"", work_of<F, T...>(count)}; },
      [&] { for_each_element(static_cast<Base&>(device), count, f, at...); });
}
template <class Base, class F, class... T>
double sum_of(Profiled<Base>& device, Index count, const F& f, T*... at) {
  return device.measure(
      name_of<F>("sum_of"), [&] { return Account{"", work_of<F, const T...>(count)}; },
      [&] { return sum_of(static_cast<Base&>(device), count, f, at...); });
}

}  // namespace lnfree::profiled

namespace lnfree {

/// Recorded work replays as a whole, so while the profile runs it is executed primitive by primitive.
template <class Base, class Key>
class Recording<profiled::Profiled<Base>, Key> {
 public:
  /// Runs body(), without a recording while the profile runs.
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
