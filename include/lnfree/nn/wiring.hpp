#pragma once

#include <cstddef>
#include <vector>

#include <lnfree/core/error.hpp>

namespace lnfree {

/// The steps of a block on matrices of the residual stream's size, and the steps of its backward pass with
/// their gradient buffers. Matrices are numbered: 0 is the block's input, s + 1 the output of step s.
class Wiring {
 public:
  enum class Kind { norm, attention, feed_forward };

  /// output = kind(input), or kind(input) + addend.
  struct Step {
    Kind kind;
    int norm = -1;  ///< The index of the norm, in a norm step.
    int input;
    int addend = -1;
    int values = -1;  ///< The input of an attention's values, if it is not `input`.
  };

  /// Computes the gradient of a step's input in buffer d_input from that of its output in buffer d_output,
  /// and adds buffer `addend` if given. With step -1: d_input = d_output + addend. The gradient of an
  /// attention's `values`, if it has any, goes to d_values.
  struct GradientStep {
    int step;
    int d_output;
    int addend;
    int d_input;
    int d_values = -1;
  };

  /// Adds a step; returns the number of its output.
  int add_step(Step step) {
    steps_.push_back(step);
    return static_cast<int>(steps_.size());
  }
  Step& step_of(int matrix) { return steps_[static_cast<std::size_t>(matrix - 1)]; }

  /// Completes the wiring: `result` is the block's output. Throws Error if the wiring is invalid.
  void finish(int result) {
    int of_kind[3] = {};
    for (const Step& step : steps_) ++of_kind[static_cast<int>(step.kind)];
    for (const Kind kind : {Kind::attention, Kind::feed_forward}) {
      if (of_kind[static_cast<int>(kind)] != 1)
        throw Error("a layout must call attention() and feed_forward() once each");
    }
    if (result != static_cast<int>(steps_.size()))
      throw Error("a layout must return the output of its last step");
    Gradients(*this).plan(result);
  }

  const std::vector<Step>& steps() const { return steps_; }

  /// A sum on the path from the block's input to its output.
  struct Addition {
    int matrix;  ///< Number of the sum.
    Kind kind;   ///< The sublayer whose output, normalized or not, is added.
  };

  /// The additions from the input to the output, in order. Empty if anything but sums is between the two.
  std::vector<Addition> additions() const {
    std::vector<Addition> found;
    for (int matrix = static_cast<int>(steps_.size()); matrix != 0;) {
      const Step& sum = steps_[static_cast<std::size_t>(matrix - 1)];
      if (sum.addend < 0) return {};
      const Step* added = &sum;
      while (added->kind == Kind::norm) {
        if (added->input == 0 || steps_[static_cast<std::size_t>(added->input - 1)].addend >= 0) return {};
        added = &steps_[static_cast<std::size_t>(added->input - 1)];
      }
      found.insert(found.begin(), {matrix, added->kind});
      matrix = sum.addend;
    }
    return found;
  }
  const std::vector<GradientStep>& gradient_steps() const { return gradient_steps_; }

  /// How many gradient buffers are needed. Buffer 0 holds the gradient of the output at the start.
  int gradient_buffers() const { return buffers_; }
  /// The buffer that holds the gradient of the input at the end.
  int gradient_of_input() const { return gradient_of_input_; }

 private:
  /// Assigns gradients to buffers. A sum passes its gradient to both of its terms without a copy, so a buffer
  /// may hold the gradients of several matrices. An addition to one of them is done in place if no other
  /// matrix still needs the buffer.
  class Gradients {
   public:
    explicit Gradients(Wiring& wiring)
        : wiring_(wiring), uses_(wiring.steps_.size() + 1), buffer_of_(uses_.size(), none) {
      for (const Step& step : wiring.steps_) {
        ++uses(step.input);
        if (step.addend != none) ++uses(step.addend);
        if (step.values != none) ++uses(step.values);
      }
    }

    void plan(int result) {
      for (int matrix = 0; matrix < result; ++matrix) {
        if (uses(matrix) == 0) throw Error("a layout computes a value that it does not use");
      }
      buffer_of(result) = acquire();
      propagate(result);
      for (int s = result - 1; s >= 0; --s) {
        const Step& step = wiring_.steps_[static_cast<std::size_t>(s)];
        const int d_output = buffer_of(s + 1), addend = buffer_of(step.input);
        // A norm still reads the gradient of its output after writing that of its input.
        const bool in_place = step.kind != Kind::norm;
        const int target = addend == none ? d_output : addend;
        const bool alone = holders(target) == 1 + (addend == d_output ? 1 : 0);
        const bool reuses = alone && (target != d_output || in_place);
        const int d_input = reuses ? target : acquire();
        if (addend == none || d_input != addend) hold(step.input, d_input, reuses);
        // The output of the values' norm has no other use.
        const int d_values = step.values == none ? none : acquire();
        if (d_values != none) hold(step.values, d_values, false);
        wiring_.gradient_steps_.push_back({s, d_output, addend, d_input, d_values});
        --holders(d_output);
        if (--uses(step.input) == 0) propagate(step.input);
        if (d_values != none && --uses(step.values) == 0) propagate(step.values);
      }
      wiring_.gradient_of_input_ = buffer_of(0);
      wiring_.buffers_ = static_cast<int>(holders_.size());
    }

   private:
    static constexpr int none = -1;

    /// Called when the gradient of a matrix is complete. If the matrix is a sum, passes the gradient on to
    /// its addend.
    void propagate(int matrix) {
      if (matrix == 0) return;
      const int addend = wiring_.step_of(matrix).addend, buffer = buffer_of(matrix);
      if (addend == none) return;
      if (buffer_of(addend) == none) {
        hold(addend, buffer, true);
      } else {
        const int mine = buffer_of(addend);
        const bool reuses = mine != buffer && holders(mine) == 1;
        const int sum = reuses ? mine : acquire();
        wiring_.gradient_steps_.push_back({none, mine, buffer, sum});
        if (!reuses) hold(addend, sum, false);
      }
      if (--uses(addend) == 0) propagate(addend);
    }

    /// Acquires a free buffer, which then has one holder.
    int acquire() {
      for (std::size_t b = 0; b < holders_.size(); ++b) {
        if (holders_[b] == 0) {
          holders_[b] = 1;
          return static_cast<int>(b);
        }
      }
      holders_.push_back(1);
      return static_cast<int>(holders_.size()) - 1;
    }

    /// Records that the gradient of `matrix` is in `buffer` from here on; `shares` if the buffer has other
    /// holders.
    void hold(int matrix, int buffer, bool shares) {
      if (buffer_of(matrix) != none) --holders(buffer_of(matrix));
      if (shares) ++holders(buffer);
      buffer_of(matrix) = buffer;
    }

    int& uses(int matrix) { return uses_[static_cast<std::size_t>(matrix)]; }
    int& buffer_of(int matrix) { return buffer_of_[static_cast<std::size_t>(matrix)]; }
    int& holders(int buffer) { return holders_[static_cast<std::size_t>(buffer)]; }

    Wiring& wiring_;
    std::vector<int> uses_;       // of each matrix, still to come
    std::vector<int> buffer_of_;  // where the gradient of each matrix is
    std::vector<int> holders_;    // matrices whose gradient is in each buffer
  };

  std::vector<Step> steps_;
  std::vector<GradientStep> gradient_steps_;
  int buffers_ = 0;
  int gradient_of_input_ = 0;
};

}  // namespace lnfree
