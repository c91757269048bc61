#pragma once

#include <concepts>
#include <cstdint>
#include <vector>

#include <lnfree/core/concepts.hpp>
#include <lnfree/core/config.hpp>
#include <lnfree/core/memory.hpp>
#include <lnfree/core/tensor.hpp>
#include <lnfree/nn/parameter.hpp>

/// An objective is what a model minimizes: a class template of the device, with a `name` and a constructor
/// from ParameterSet<Device>& and const DecoderConfig&, which may add parameters. It is the mean
/// cross-entropy of the targets plus the penalties that it adds in the members that it offers:
///
///   double on_entropies(device, pass, entropies, d_entropies)   (L B H, T): sets d_entropies
///   double on_hidden(device, pass, layer, hidden, d_hidden)     (B T, ffn_width): adds to d_hidden
///   double on_stream(device, pass, x, d_x)                      (B T, C), after the last block: adds to d_x
///   double on_state(device, pass, layer, x, d_x)                (B T, C), after a block: adds to d_x
///   double on_logits(device, pass, first_row, logits, losses)   (rows, V), replaces the cross-entropy:
///                                                               overwrites logits with their gradient, and
///                                                               sets losses (rows)
///
/// Each returns what it adds to the mean loss, coefficient included. Its gradients are those of that term
/// times pass.gradient_scale. These members are called in training passes only. The reported loss does not
/// include what they return. An objective may also offer
///
///   plan(arena, max_shape, config)   to reserve device memory
///   report(parameters, device, f)    to call f(name, value) for what goes into metrics.jsonl
///   options()                        a struct whose for_each(options, f) calls f(name, value, help): the
///                                    trainers' flags, which must be the same when a run is resumed
namespace lnfree {

/// What an objective may need to know of a training pass.
struct TrainingPass {
  BatchShape shape;       ///< The number of sequences and their length.
  double gradient_scale;  ///< The factor of the gradient of the mean loss.
  double loss_scale;      ///< The factor of the gradient of one target's loss; 0 if there are no targets.
  const std::int32_t* tokens;   ///< (B T), on the device.
  const std::int32_t* targets;  ///< (B T), on the device.
};

/// on_entropies(): adds a term of the entropies of all heads to the loss.
template <class O, class D>
concept PenalizesEntropies =
    requires(O& o, D& device, const TrainingPass& pass, Matrix<const typename D::Accumulator> entropies,
             Matrix<typename D::Accumulator> d_entropies) {
      { o.on_entropies(device, pass, entropies, d_entropies) } -> std::same_as<double>;
    };

/// on_hidden(): adds a term of the hidden layer of each block to the loss.
template <class O, class D>
concept PenalizesHidden =
    requires(O& o, D& device, const TrainingPass& pass, Matrix<const typename D::Scalar> hidden,
             Matrix<typename D::Scalar> d_hidden) {
      { o.on_hidden(device, pass, 0, hidden, d_hidden) } -> std::same_as<double>;
    };

/// on_stream(): adds a term of the stream after the last block to the loss.
template <class O, class D>
concept PenalizesStream = requires(O& o, D& device, const TrainingPass& pass,
                                   Matrix<const typename D::Scalar> x, Matrix<typename D::Scalar> d_x) {
  { o.on_stream(device, pass, x, d_x) } -> std::same_as<double>;
};

/// on_state(): adds a term of the stream after each block to the loss. Called from the last block to the
/// first, after on_logits().
template <class O, class D>
concept PenalizesStates = requires(O& o, D& device, const TrainingPass& pass,
                                   Matrix<const typename D::Scalar> x, Matrix<typename D::Scalar> d_x) {
  { o.on_state(device, pass, 0, x, d_x) } -> std::same_as<double>;
};

/// on_logits(): computes the loss in place of the cross-entropy.
template <class O, class D>
concept ReplacesCrossEntropy = requires(O& o, D& device, const TrainingPass& pass, Index first_row,
                                        Matrix<typename D::Scalar> logits, typename D::Accumulator* losses) {
  { o.on_logits(device, pass, first_row, logits, losses) } -> std::same_as<double>;
};

/// Whether an objective is more than the cross-entropy.
template <class O, class D>
concept AddsToTheLoss = PenalizesEntropies<O, D> || PenalizesHidden<O, D> || PenalizesStream<O, D> ||
                        PenalizesStates<O, D> || ReplacesCrossEntropy<O, D>;

/// options(): has options that are chosen at run time.
template <class O>
concept HasOptions = requires(O& o) { o.options(); };

/// teacher_name(): compares the model with another one.
template <class O>
concept LearnsFromTeacher = requires(O& o) { o.teacher_name(); };

/// target(): compares the model with an earlier state of itself. After each training pass measure(sums)
/// appends numbers of it, update_target(step, of_passes) updates the target with those of all passes of a
/// step, and set_target() restores it from a checkpoint.
template <class O>
concept HasTarget = requires(O& o, std::vector<double>& sums, const std::vector<double>& of_passes) {
  { o.target() } -> std::same_as<double>;
  { o.has_target() } -> std::same_as<bool>;
  o.set_target(1.0);
  o.measure(sums);
  o.update_target(std::int64_t{0}, of_passes);
};

/// What Decoder takes as an objective (docs/change.md).
template <class O, class D>
concept Objective = Named<O> && std::constructible_from<O, ParameterSet<D>&, const DecoderConfig&>;

}  // namespace lnfree
