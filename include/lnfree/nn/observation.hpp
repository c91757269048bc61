#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <vector>

#include <lnfree/core/concepts.hpp>
#include <lnfree/core/config.hpp>
#include <lnfree/core/memory.hpp>
#include <lnfree/device/primitives.hpp>

namespace lnfree {

/// Passes data of a model's passes to its observer, on the host and as Accumulator, for any device. It holds
/// the memory on both sides and copies between them. What observer `O` does not ask for is not compiled;
/// `NeedsEntropies` is true if something else uses the entropies.
template <class O, bool NeedsEntropies, class Device>
class Observation {
 public:
  using Scalar = typename Device::Scalar;
  using Accumulator = typename Device::Accumulator;
  static_assert(
      Observer<O>,
      "lnfree: the observer must offer reset() and a constructor from a number of layers and of heads "
      "(docs/adding-an-observer.md)");
  static_assert(RecordsEntropies<O, Accumulator>,
                "lnfree: an observer of entropies must offer record(shape, entropy_sums, finite_rows) "
                "(docs/adding-an-observer.md)");
  static_assert(
      RecordsLayers<O, Accumulator>,
      "lnfree: an observer of the stream must offer record_layer(layer, rows, column_squares, hidden, "
      "zeros) (docs/adding-an-observer.md)");
  static_assert(RecordsScores<O, Accumulator>,
                "lnfree: an observer of scores must offer record_scores(shape, max_scores) "
                "(docs/adding-an-observer.md)");
  static_assert(RecordsStream<O, Accumulator>,
                "lnfree: an observer of the stream's values must offer record_stream(layer, shape, x) "
                "(docs/adding-an-observer.md)");
  static_assert(RecordsHidden<O, Accumulator>,
                "lnfree: an observer of hidden values must offer record_hidden(layer, shape, hidden) "
                "(docs/adding-an-observer.md)");
  static_assert(RecordsLosses<O, Accumulator>,
                "lnfree: an observer of losses must offer record_losses(shape, losses, targets) "
                "(docs/adding-an-observer.md)");
  static_assert(RecordsLogits<O, Accumulator>,
                "lnfree: an observer of logits must offer record_logits(first_row, logits) "
                "(docs/adding-an-observer.md)");
  static_assert(RecordsAttention<O, Accumulator>,
                "lnfree: an observer of attention must offer record_attention(layer, shape, qkv, log_sums) "
                "(docs/adding-an-observer.md)");
  static_assert(RecordsParts<O, Accumulator>,
                "lnfree: an observer of the stream's parts must offer record_part(layer, part, shape, x) "
                "(docs/adding-an-observer.md)");

  using Asks = Observes<O>;
  static constexpr bool has_entropies = Asks::entropy || Asks::scores || NeedsEntropies;

  /// What the attention outputs for each query.
  using Rows = std::conditional_t<Asks::scores, RowScores<Accumulator>,
                                  std::conditional_t<has_entropies, RowEntropies<Accumulator>, Unobserved>>;

  explicit Observation(const DecoderConfig& config)
      : config_(config), observer_(config.layers, config.heads) {}

  void plan(Arena& arena, BatchShape max_shape) {
    const Index heads = heads_of(max_shape), rows = max_shape.rows();
    if constexpr (has_entropies) entropy_rows_ = arena.take<Accumulator>(heads * max_shape.length);
    if constexpr (Asks::scores) max_scores_ = arena.take<Accumulator>(heads * max_shape.length);
    if constexpr (Asks::entropy) {
      entropy_sums_ = arena.take<Accumulator>(heads);
      finite_rows_ = arena.take<std::int32_t>(heads);
    }
    if constexpr (Asks::stream) column_squares_ = arena.take<Accumulator>(config_.width);
    Index numbers = 0, scalars = 0;  // the largest copy of each type
    if constexpr (Asks::scores) numbers = heads * max_shape.length;
    if constexpr (Asks::stream_values) scalars = std::max(scalars, rows * config_.width);
    if constexpr (Asks::hidden_values) scalars = std::max(scalars, rows * config_.ffn_width);
    if constexpr (Asks::attention) scalars = std::max(scalars, rows * 3 * config_.width);
    if constexpr (Asks::stream_parts) scalars = std::max(scalars, rows * config_.width);
    if constexpr (Asks::logits) scalars = std::max(scalars, Index{config_.vocab_size});
    max_scalars_ = scalars;
    max_numbers_ = std::max(numbers, scalars);
    max_heads_ = heads;
    max_queries_ = rows * config_.heads;
  }

  /// Allocates host memory.
  void allocate() {
    if constexpr (Asks::entropy) {
      host_sums_.resize(static_cast<std::size_t>(max_heads_));
      host_finite_rows_.resize(host_sums_.size());
    }
    if constexpr (Asks::stream) host_column_squares_.resize(static_cast<std::size_t>(config_.width));
    if constexpr (Asks::attention) host_log_sums_.resize(static_cast<std::size_t>(max_queries_));
    host_numbers_.resize(static_cast<std::size_t>(max_numbers_));
    if constexpr (!std::is_same_v<Scalar, Accumulator>)
      host_scalars_.resize(static_cast<std::size_t>(max_scalars_));
  }

  /// Where the attention of a layer writes its output for each query.
  Rows rows_of_layer(BatchShape shape, int layer) const {
    const Index first = layer * shape.rows() * config_.heads;
    if constexpr (Asks::scores) {
      return {{entropy_rows_ + first}, max_scores_ + first};
    } else if constexpr (has_entropies) {
      return {entropy_rows_ + first};
    } else {
      return {};
    }
  }

  /// The entropies of all layers' heads, (L B H, T).
  Matrix<const Accumulator> row_entropies(BatchShape shape) const {
    return {entropy_rows_, heads_of(shape), shape.length};
  }

  /// Call with the output of the embedding.
  void embedding([[maybe_unused]] Device& device, [[maybe_unused]] BatchShape shape,
                 [[maybe_unused]] Matrix<const Scalar> x) {
    if constexpr (Asks::stream_parts)
      observer_.record_part(0, StreamPart::embedding, shape, on_host(device, x));
  }

  /// Call after each layer, computed by `block`; x is the stream after it.
  template <class Block>
  void layer([[maybe_unused]] Device& device, [[maybe_unused]] BatchShape shape, [[maybe_unused]] int layer,
             [[maybe_unused]] Matrix<const Scalar> x, [[maybe_unused]] const Block& block) {
    [[maybe_unused]] const Matrix<const Scalar> hidden = block.hidden(x.rows);
    if constexpr (Asks::attention) {
      copy_to_host(device, host_log_sums_.data(), block.attention().log_sums(),
                   static_cast<std::size_t>(x.rows * config_.heads) * sizeof(Accumulator));
      observer_.record_attention(
          layer, AttentionShape{shape.batch, shape.length, config_.heads, config_.head_dim()},
          on_host(device, block.attention().queries_keys_values(x.rows)), host_log_sums_.data());
    }
    if constexpr (Asks::stream_parts) {
      block.for_each_sum(x.rows, [&](StreamPart part, Matrix<const Scalar> sum) {
        observer_.record_part(layer, part, shape, on_host(device, sum));
      });
    }
    if constexpr (Asks::stream) {
      column_squares(device, x, column_squares_);
      copy_to_host(device, host_column_squares_.data(), column_squares_,
                   static_cast<std::size_t>(config_.width) * sizeof(Accumulator));
      observer_.record_layer(layer, x.rows, host_column_squares_, hidden.size(), count_zeros(device, hidden));
    }
    if constexpr (Asks::stream_values) observer_.record_stream(layer, shape, on_host(device, x));
    if constexpr (Asks::hidden_values) observer_.record_hidden(layer, shape, on_host(device, hidden));
  }

  void logits([[maybe_unused]] Device& device, [[maybe_unused]] Index first_row,
              [[maybe_unused]] Matrix<const Scalar> logits) {
    if constexpr (Asks::logits) {
      // Row by row: their stride is larger than their length.
      for (Index i = 0; i < logits.rows; ++i)
        observer_.record_logits(first_row + i, on_host(device, logits.slice(i, 1)));
    }
  }

  /// Call after all layers, in every pass that ends with pass().
  void all_layers([[maybe_unused]] Device& device, [[maybe_unused]] BatchShape shape) {
    if constexpr (Asks::entropy) entropy_sums(device, row_entropies(shape), entropy_sums_, finite_rows_);
  }

  /// Call at the end of a pass. `losses` are on the host.
  void pass([[maybe_unused]] Device& device, [[maybe_unused]] BatchShape shape,
            [[maybe_unused]] const Accumulator* losses, [[maybe_unused]] const std::int32_t* targets) {
    if constexpr (Asks::entropy) {
      const auto count = static_cast<std::size_t>(heads_of(shape));
      copy_to_host(device, host_sums_.data(), entropy_sums_, count * sizeof(Accumulator));
      copy_to_host(device, host_finite_rows_.data(), finite_rows_, count * sizeof(std::int32_t));
      observer_.record(shape, host_sums_.data(), host_finite_rows_.data());
    }
    if constexpr (Asks::scores) {
      const auto count = static_cast<std::size_t>(heads_of(shape) * shape.length);
      copy_to_host(device, host_numbers_.data(), max_scores_, count * sizeof(Accumulator));
      observer_.record_scores(shape, host_numbers_.data());
    }
    if constexpr (Asks::losses) observer_.record_losses(shape, losses, targets);
  }

  O& observer() { return observer_; }
  const O& observer() const { return observer_; }

 private:
  Index heads_of(BatchShape shape) const { return Index{config_.layers} * shape.batch * config_.heads; }

  /// A copy of a contiguous matrix.
  Matrix<const Accumulator> on_host(Device& device, Matrix<const Scalar> matrix) {
    const auto bytes = static_cast<std::size_t>(matrix.size()) * sizeof(Scalar);
    if constexpr (std::is_same_v<Scalar, Accumulator>) {
      copy_to_host(device, host_numbers_.data(), matrix.data, bytes);
    } else {
      copy_to_host(device, host_scalars_.data(), matrix.data, bytes);
      std::copy_n(host_scalars_.begin(), matrix.size(), host_numbers_.begin());
    }
    return {host_numbers_.data(), matrix.rows, matrix.cols};
  }

  DecoderConfig config_;
  O observer_;
  Index max_heads_ = 0, max_queries_ = 0, max_numbers_ = 0, max_scalars_ = 0;
  Accumulator* entropy_rows_ = nullptr;    // (L, B, H, T)
  Accumulator* max_scores_ = nullptr;      // (L, B, H, T)
  Accumulator* entropy_sums_ = nullptr;    // (L, B, H)
  std::int32_t* finite_rows_ = nullptr;    // (L, B, H)
  Accumulator* column_squares_ = nullptr;  // (C)
  std::vector<Accumulator> host_sums_;
  std::vector<std::int32_t> host_finite_rows_;
  std::vector<Accumulator> host_column_squares_;
  std::vector<Accumulator> host_log_sums_;
  std::vector<Accumulator> host_numbers_;
  std::vector<Scalar> host_scalars_;
};

}  // namespace lnfree
