#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <lnfree/core/config.hpp>
#include <lnfree/core/error.hpp>
#include <lnfree/core/excerpt.hpp>
#include <lnfree/core/macros.hpp>
#include <lnfree/core/math.hpp>
#include <lnfree/core/memory.hpp>
#include <lnfree/core/parse_number.hpp>
#include <lnfree/core/policies.hpp>
#include <lnfree/device/primitives.hpp>
#include <lnfree/nn/output_head.hpp>
#include <lnfree/nn/parameter.hpp>
#include <lnfree/norm/call.hpp>
#include <lnfree/objective/objective.hpp>

namespace lnfree {

/// Run-time choices of distillation.
struct DistillationOptions {
  double weight = 0.5;     ///< Share of the teacher in what is minimized, from 0 to 1.
  double temperature = 1;  ///< What the logits of both are divided by, more than 0.
  /// Blocks after which the student learns the teacher's stream, in the form that layer_pairs() reads; empty:
  /// none.
  std::string layers = "";
  double hidden_weight = 1;  ///< Weight of the distance between those streams, at least 0.

  /// Calls f(name, value, help) for each of the options.
  template <class Options, class F>
  static void for_each(Options& options, const F& f) {
    f("teacher_weight", options.weight, "Share of the teacher in what is minimized, from 0 to 1");
    f("teacher_temperature", options.temperature, "What the logits of teacher and student are divided by");
    f("teacher_layers", options.layers,
      "Blocks, counted from 0, after which the student learns the teacher's stream, such as 2,5,7; "
      "1:2,3:5 for other blocks of the teacher");
    f("hidden_weight", options.hidden_weight,
      "Weight of the distance between the streams after those blocks");
  }
};

/// A block of the student and the block of the teacher from which it learns.
struct LayerPair {
  int student;  ///< Counted from 0, as in tensor names: 2 is h.2.
  int teacher;  ///< Counted from 0.
};

/// Reads pairs from a text such as "2,5,7", the same blocks in both models, or "1:2,3:5", the student's block
/// first. Throws Error for any other text, and if a block of the student occurs twice.
inline std::vector<LayerPair> layer_pairs(const std::string& text) {
  std::vector<LayerPair> pairs;
  const auto wrong = [&](const std::string& how) {
    return Error("the layers of a teacher are \"" + excerpt(text) + "\", " + how +
                 "; numbers from 0 were expected, such as 2,5,7, or 1:2,3:5 for the student's and the "
                 "teacher's");
  };
  const auto number = [&](std::string_view digits) {
    const auto value = parse_number<int>(digits);
    if (!value || *value < 0) throw wrong("where \"" + excerpt(digits) + "\" is not a block");
    return *value;
  };
  for (std::size_t begin = 0; begin < text.size() || (begin == text.size() && begin > 0);) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    const std::string_view entry = std::string_view(text).substr(begin, end - begin);
    const std::size_t colon = entry.find(':');
    const int student = number(entry.substr(0, colon));
    const LayerPair pair{student,
                         colon == std::string_view::npos ? student : number(entry.substr(colon + 1))};
    for (const LayerPair& earlier : pairs) {
      if (earlier.student == pair.student)
        throw wrong("where block " + std::to_string(student) + " of the student occurs twice");
    }
    pairs.push_back(pair);
    begin = end + 1;
  }
  return pairs;
}

/// Divides each row by its root mean square, so that streams of different scales can be compared.
struct UnitRow {
  static constexpr std::string_view name = "unit_row";
  static constexpr double epsilon = 1e-12;  ///< For rows of zeros.
  template <class T>
  LNFREE_HOST_DEVICE static RowStatistics<T> statistics(T mean, T variance) {
    return {T(0), T(1) / math::sqrt(mean * mean + variance + T(epsilon))};
  }
  template <class T>
  LNFREE_HOST_DEVICE static T value(T x, RowStatistics<T> row) {
    return x * row.scale;
  }
};

// What nvcc makes kernels of must not be private to a class.
namespace detail::distillation {

/// a = s / T and d = (t - s) / T; t is divided by T in place.
struct Divide {
  double per_temperature;
  template <class T>
  LNFREE_HOST_DEVICE void operator()(T s, T& t, T& a, T& d) const {
    const T factor = static_cast<T>(per_temperature);
    d = (t - s) * factor;
    a = s * factor;
    t *= factor;
  }
};
/// s += a - t.
struct AddDifference {
  template <class T>
  LNFREE_HOST_DEVICE void operator()(T& s, T a, T t) const {
    s += a - t;
  }
};
struct Product {
  template <class T>
  LNFREE_HOST_DEVICE double operator()(T a, T b) const {
    return static_cast<double>(a) * static_cast<double>(b);
  }
};
/// a = factor (a - b).
struct ScaledDifference {
  double factor;
  template <class T>
  LNFREE_HOST_DEVICE void operator()(T& a, T b) const {
    a = static_cast<T>(factor) * (a - b);
  }
};
struct SquaredDifference {
  template <class T>
  LNFREE_HOST_DEVICE double operator()(T a, T b) const {
    const double difference = static_cast<double>(a) - static_cast<double>(b);
    return difference * difference;
  }
};
struct Value {
  template <class T>
  LNFREE_HOST_DEVICE double operator()(T a) const {
    return static_cast<double>(a);
  }
};

}  // namespace detail::distillation

/// Learns from a teacher's probabilities besides the targets (Hinton, Vinyals and Dean, 2015):
///
///   (1 - weight) cross-entropy + weight temperature^2 KL(teacher || student)
///
/// over the rows that have a target, with the logits of both divided by the temperature in the second term;
/// and, if layers are chosen, from its residual stream:
///
///   hidden_weight mean over those layers and all rows of 1/C |s / rms(s) - t / rms(t)|^2
///
/// where s is a row of the student's stream after a block and t that of the teacher's, which must have the
/// same width. Rows are divided by their root mean squares because the streams of models with and without
/// norms have different scales, which also grow differently from block to block: only the direction can be
/// learned. The distance equals 2 - 2 cos(s, t).
///
/// Without a teacher it is the cross-entropy alone. The model's penalty() is what this adds to the
/// cross-entropy.
template <class Device>
class Distillation {
 public:
  using Scalar = typename Device::Scalar;
  using Accumulator = typename Device::Accumulator;
  static constexpr std::string_view name = "distillation";

  /// Gives the teacher's logits for up to `rows` rows of a pass from `first_row` on, in memory that may be
  /// overwritten, until the next call. Rows are asked for in order, from the first one of each pass.
  using Teacher =
      std::function<Matrix<Scalar>(Device& device, const TrainingPass& pass, Index first_row, Index rows)>;

  /// Has no parameters of its own.
  Distillation(ParameterSet<Device>&, const DecoderConfig&) {}

  /// teacher_of() makes one of a model. A run that is resumed must have a teacher of the same name.
  void set_teacher(Teacher teacher, std::string label = "") {
    teacher_ = std::move(teacher);
    teacher_name_ = std::move(label);
  }
  /// Returns the teacher's state for pair i (rows, C) in the pass that its last logits belong to: the stream
  /// after the block, each row divided by its root mean square.
  using States = std::function<Matrix<const Scalar>(std::size_t i, Index rows)>;

  /// Sets the blocks whose stream is learned, in passes of up to `rows` tokens, and the teacher's states.
  /// Allocates state_bytes() of device memory. learn_from() calls this.
  void set_states(Device& device, std::vector<LayerPair> pairs, Index rows, Index width, States states) {
    pairs_ = std::move(pairs);
    states_ = std::move(states);
    state_memory_ = Buffer<Device>(device, state_bytes(pairs_, rows, width));
    Arena placed(state_memory_.data());
    if (!pairs_.empty()) place_states(placed, rows, width);
  }
  /// Bytes of device memory for that.
  static std::size_t state_bytes(const std::vector<LayerPair>& pairs, Index rows, Index width) {
    Arena counted;
    if (!pairs.empty()) Distillation().place_states(counted, rows, width);
    return counted.peak();
  }

  /// As set_teacher() was told.
  const std::string& teacher_name() const { return teacher_name_; }

  /// Its run-time choices.
  DistillationOptions& options() { return options_; }
  /// Its run-time choices.
  const DistillationOptions& options() const { return options_; }

  /// Reserves two copies of the logits that exist at a time.
  void plan(Arena& arena, BatchShape max_shape, const DecoderConfig& config) {
    const LogitsChunk chunk = logits_chunk<Device>(max_shape, config.vocab_size);
    student_ = {arena.take<Scalar>(chunk.size()), chunk.rows, config.vocab_size, chunk.stride};
    difference_ = {arena.take<Scalar>(chunk.size()), chunk.rows, config.vocab_size, chunk.stride};
    student_losses_ = arena.take<Accumulator>(chunk.rows);
    teacher_losses_ = arena.take<Accumulator>(chunk.rows);
  }

  /// As objective/objective.hpp says. Throws Error for options without meaning and a teacher of another
  /// vocabulary.
  double on_logits(Device& device, const TrainingPass& pass, Index first_row, Matrix<Scalar> logits,
                   Accumulator* losses) {
    if (!(options_.weight >= 0 && options_.weight <= 1))
      throw Error("the weight of a teacher must be from 0 to 1");
    if (!(options_.temperature > 0)) throw Error("the temperature of distillation must be more than 0");
    if (!(options_.hidden_weight >= 0)) throw Error("the weight of a teacher's states must be 0 or more");
    if (!options_.layers.empty() && pairs_.empty() && teacher_ != nullptr)
      throw Error("layers of a teacher were chosen, but it has no states; set the teacher with learn_from()");
    if (teacher_ == nullptr || pass.loss_scale == 0) {
      cross_entropy_forward_backward(device, logits, pass.targets + first_row, losses, pass.loss_scale);
      return 0;
    }
    double penalty = 0;
    for (Index done = 0; done < logits.rows;) {
      const Matrix<Scalar> of_teacher = teacher_(device, pass, first_row + done, logits.rows - done);
      if (of_teacher.cols != logits.cols || of_teacher.stride != logits.stride)
        throw Error("the teacher has another vocabulary than the student");
      penalty += learn(device, pass, pass.targets + first_row + done, logits.slice(done, of_teacher.rows),
                       of_teacher, losses + done);
      done += of_teacher.rows;
    }
    return penalty;
  }

  /// See objective/objective.hpp.
  double on_state(Device& device, const TrainingPass& pass, int layer, Matrix<const Scalar> x,
                  Matrix<Scalar> d_x) {
    // Without targets the teacher has not computed this pass.
    if (pairs_.empty() || teacher_ == nullptr || options_.hidden_weight == 0 || pass.loss_scale == 0)
      return 0;
    const auto pair = std::find_if(pairs_.begin(), pairs_.end(),
                                   [&](const LayerPair& each) { return each.student == layer; });
    if (pair == pairs_.end()) return 0;
    const Matrix<Scalar> unit = unit_.top(x.rows);
    norm_forward(device, UnitRow{}, x, NormPointers<const Scalar, UnitRow>{}, unit, unit_rows_);
    const Matrix<const Scalar> teacher = states_(static_cast<std::size_t>(pair - pairs_.begin()), x.rows);
    const double share =
        options_.hidden_weight / static_cast<double>(pairs_.size()) / static_cast<double>(x.size());
    const double penalty = share * sum_of(device, x.size(), detail::distillation::SquaredDifference{},
                                          std::as_const(unit).data, teacher.data);
    for_each_element(device, x.size(),
                     detail::distillation::ScaledDifference{2 * share * pass.gradient_scale}, unit.data,
                     teacher.data);
    norm_backward(device, UnitRow{}, x, NormPointers<const Scalar, UnitRow>{}, unit_rows_, unit,
                  accumulate(d_x), NormPointers<Accumulator, UnitRow>{});
    return penalty;
  }

 private:
  Distillation() = default;

  void place_states(Arena& arena, Index rows, Index width) {
    unit_ = arena.matrix<Scalar>(rows, width);
    unit_rows_ = arena.take<NormRow<Accumulator>>(rows);
  }

  /// Leaves the gradient in `logits`. The gradients of two cross-entropies of the same targets differ by what
  /// the gradient of the divergence is: p_student - p_teacher; and
  /// KL = sum_j (p_teacher - onehot)_j (t_j - s_j) / T + loss of the student - loss of the teacher.
  double learn(Device& device, const TrainingPass& pass, const std::int32_t* targets, Matrix<Scalar> logits,
               Matrix<Scalar> teacher, Accumulator* losses) {
    const double weight = options_.weight, temperature = options_.temperature;
    const Matrix<Scalar> student = student_.top(logits.rows), difference = difference_.top(logits.rows);
    const Index count = logits.rows * logits.stride;  // what lies behind the columns is 0 in all of them
    for_each_element(device, count, detail::distillation::Divide{1 / temperature}, std::as_const(logits).data,
                     teacher.data, student.data, difference.data);
    cross_entropy_forward_backward(device, logits, targets, losses, (1 - weight) * pass.loss_scale);
    if (weight == 0) return 0;
    const double scale = weight * temperature * pass.loss_scale;
    cross_entropy_forward_backward(device, student, targets, student_losses_, scale);
    cross_entropy_forward_backward(device, teacher, targets, teacher_losses_, scale);
    for_each_element(device, count, detail::distillation::AddDifference{}, logits.data,
                     std::as_const(student).data, std::as_const(teacher).data);
    const auto sum_of_losses = [&](const Accumulator* of) {
      return sum_of(device, logits.rows, detail::distillation::Value{}, of);
    };
    const double divergence =
        sum_of(device, count, detail::distillation::Product{}, teacher.data, difference.data) / scale +
        sum_of_losses(student_losses_) - sum_of_losses(teacher_losses_);
    const double per_target = pass.loss_scale / pass.gradient_scale;
    return weight * per_target * (temperature * temperature * divergence - sum_of_losses(losses));
  }

  DistillationOptions options_;
  Teacher teacher_;
  std::string teacher_name_;
  Matrix<Scalar> student_, difference_;  // (rows of a chunk, V)
  Accumulator *student_losses_ = nullptr, *teacher_losses_ = nullptr;
  std::vector<LayerPair> pairs_;
  States states_;
  Buffer<Device> state_memory_;
  Matrix<Scalar> unit_;                        // (B, T, C): a state of the student, then its gradient
  NormRow<Accumulator>* unit_rows_ = nullptr;  // (B, T)
};

}  // namespace lnfree
