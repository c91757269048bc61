#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <lnfree/core/config.hpp>
#include <lnfree/core/error.hpp>
#include <lnfree/core/memory.hpp>
#include <lnfree/core/tensor.hpp>
#include <lnfree/device/primitives.hpp>
#include <lnfree/norm/call.hpp>
#include <lnfree/objective/distillation.hpp>
#include <lnfree/objective/objective.hpp>

namespace lnfree {

/// A teacher's stream after chosen blocks of its last pass, each row divided by its root mean square.
template <class Model>
class TeacherStates {
 public:
  using Scalar = typename Model::Scalar;
  using Accumulator = typename Model::Accumulator;

  /// Allocates bytes() of device memory.
  TeacherStates(std::shared_ptr<Model> model, std::vector<LayerPair> pairs)
      : model_(std::move(model)),
        pairs_(std::move(pairs)),
        memory_(model_->device(), bytes(pairs_, max_rows(), model_->config.width)) {
    Arena placed(memory_.data());
    place(placed, max_rows(), model_->config.width);
  }

  /// Bytes of the states of a pass over `rows` tokens.
  static std::size_t bytes(const std::vector<LayerPair>& pairs, Index rows, Index width) {
    Arena counted;
    TeacherStates(pairs).place(counted, rows, width);
    return counted.peak();
  }

  /// Keeps x, the stream after a block, if that block was chosen.
  void keep(int layer, Matrix<const Scalar> x) {
    for (std::size_t i = 0; i < pairs_.size(); ++i) {
      if (pairs_[i].teacher != layer) continue;
      norm_forward(model_->device(), UnitRow{}, x, NormPointers<const Scalar, UnitRow>{},
                   states_[i].top(x.rows), rows_);
    }
  }

  /// The state for pair i (rows, C).
  Matrix<const Scalar> state(std::size_t i, Index rows) const { return states_[i].top(rows); }

 private:
  explicit TeacherStates(std::vector<LayerPair> pairs) : pairs_(std::move(pairs)) {}

  Index max_rows() const { return Index{model_->max_batch()} * model_->config.context; }

  void place(Arena& arena, Index rows, Index width) {
    states_.clear();
    for (std::size_t i = 0; i < pairs_.size(); ++i)
      states_.push_back(arena.template matrix<Scalar>(rows, width));
    rows_ = arena.template take<NormRow<Accumulator>>(rows);
  }

  std::shared_ptr<Model> model_;
  std::vector<LayerPair> pairs_;
  Buffer<typename Model::Device> memory_;
  std::vector<Matrix<Scalar>> states_;    // (B, T, C), by pair
  NormRow<Accumulator>* rows_ = nullptr;  // (B, T)
};

/// Makes `model`, on the student's device, the teacher of Distillation. It is a Decoder or DynamicDecoder of
/// any architecture with the student's vocabulary, built with Purpose::evaluation for batches as large and as
/// long as the student's. Each pass of the student adds a forward pass of the teacher.
/// `states`, if given, receives the teacher's stream after the chosen blocks.
template <class Model>
auto teacher_of(std::shared_ptr<Model> model, std::shared_ptr<TeacherStates<Model>> states = nullptr) {
  using Scalar = typename Model::Scalar;
  return [model = std::move(model), states = std::move(states), x = Matrix<const Scalar>()](
             typename Model::Device&, const TrainingPass& pass, Index first_row, Index rows) mutable {
    if (first_row == 0) {
      x = model->last_hidden(pass.shape, pass.tokens, [&](int layer, Matrix<const Scalar> state) {
        if (states != nullptr) states->keep(layer, state);
      });
    }
    return model->logits_of(x.slice(first_row, rows));
  };
}

/// Throws Error if the student or the teacher lacks one of these blocks, or if their widths differ.
inline void check_layers(const std::vector<LayerPair>& pairs, const DecoderConfig& student,
                         const DecoderConfig& teacher) {
  for (const auto& [of_student, of_teacher] : pairs) {
    const auto check = [](int layer, const DecoderConfig& config, const char* whose) {
      if (layer < config.layers) return;
      throw Error("there is no block " + std::to_string(layer) + " in the " + whose + ", whose " +
                  std::to_string(config.layers) + " blocks are 0 to " + std::to_string(config.layers - 1));
    };
    check(of_student, student, "student");
    check(of_teacher, teacher, "teacher");
  }
  if (!pairs.empty() && student.width != teacher.width) {
    throw Error(
        "the teacher has width " + std::to_string(teacher.width) + " and the student width " +
        std::to_string(student.width) +
        ", but hidden states can only be compared at the same width; give no layers, which distils the "
        "logits alone, or a teacher of the student's width");
  }
}

/// Sets the teacher of `student`, whose objective must be Distillation, with the layers of the objective's
/// present options. See teacher_of() for what a teacher can be. A resumed run must have a teacher with the
/// same label. Throws Error as check_layers() does.
template <class Student, class Model>
void learn_from(Student& student, std::shared_ptr<Model> teacher, std::string label = "") {
  auto& objective = student.objective();
  const std::vector<LayerPair> pairs = layer_pairs(objective.options().layers);
  check_layers(pairs, student.config, teacher->config);
  std::shared_ptr<TeacherStates<Model>> states;
  if (!pairs.empty()) states = std::make_shared<TeacherStates<Model>>(teacher, pairs);
  objective.set_teacher(teacher_of(std::move(teacher), states), std::move(label));
  objective.set_states(student.device(), pairs, Index{student.max_batch()} * student.config.context,
                       student.config.width,
                       [states](std::size_t i, Index rows) { return states->state(i, rows); });
}

/// Bytes that the teacher and the student need for the hidden states of these pairs, in passes of up to
/// `rows` tokens.
template <class Student, class Model>
std::size_t bytes_of_states(const std::vector<LayerPair>& pairs, Index rows, Index width) {
  if (pairs.empty()) return 0;
  return TeacherStates<Model>::bytes(pairs, rows, width) +
         Student::Objective::state_bytes(pairs, rows, width);
}

}  // namespace lnfree
