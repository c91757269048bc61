#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

#include <lnfree/core/config.hpp>
#include <lnfree/core/error.hpp>
#include <lnfree/core/macros.hpp>
#include <lnfree/core/memory.hpp>
#include <lnfree/device/primitives.hpp>
#include <lnfree/nn/output_head.hpp>
#include <lnfree/nn/parameter.hpp>
#include <lnfree/objective/objective.hpp>

namespace lnfree {

/// Run-time choices of distillation.
struct DistillationOptions {
  double weight = 0.5;     ///< Share of the teacher in what is minimized, from 0 to 1.
  double temperature = 1;  ///< What the logits of both are divided by, more than 0.

  /// Calls f(name, value, help) for each of the options.
  template <class Options, class F>
  static void for_each(Options& options, const F& f) {
    f("teacher_weight", options.weight, "Share of the teacher in what is minimized, from 0 to 1");
    f("teacher_temperature", options.temperature, "What the logits of teacher and student are divided by");
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
/// over the rows that have a target, with the logits of both divided by the temperature in the second term.
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

 private:
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
};

}  // namespace lnfree
