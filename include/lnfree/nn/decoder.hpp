#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include <lnfree/backend/primitives.hpp>
#include <lnfree/core/concepts.hpp>
#include <lnfree/core/error.hpp>
#include <lnfree/core/math.hpp>
#include <lnfree/core/memory.hpp>
#include <lnfree/core/recording.hpp>
#include <lnfree/nn/block.hpp>
#include <lnfree/nn/embedding.hpp>
#include <lnfree/nn/entropy_regularization.hpp>
#include <lnfree/nn/output_head.hpp>
#include <lnfree/norm/layer_norm.hpp>

namespace lnfree {

/// B sequences of T tokens, (B, T) row by row, and for each token the one that the model shall predict after
/// it; a negative target is not counted.
struct Batch {
  BatchShape shape;
  std::span<const std::int32_t> tokens;
  std::span<const std::int32_t> targets;
};

/// What a model is built for: a model that only evaluates holds neither gradients nor the activations of
/// every layer.
enum class Purpose { training, evaluation };

/// Run-time choices of one forward and backward pass.
struct PassOptions {
  double gradient_scale = 1;  ///< Multiplies the gradient of the mean loss: 1 / accumulation steps.
  Dropout dropout = {};       ///< Of the embedding.
  bool observe = true;        ///< Whether the model's observer sees this pass.
};

/// A decoder-only transformer: embedding, blocks, final norm, logits. The architecture and its policies are
/// template arguments; everything else is chosen at run time.
///
///   Config       sizes and layout, a DecoderConfig
///   NormPolicy         LayerNorm, Identity, RMSNorm, ..., or your own (docs/adding-a-norm.md)
///   ActivationPolicy   GELU, ReLU, ..., or your own (docs/adding-an-activation.md), or Layerwise
///   DeviceTag          a device, whose primitives compute (docs/architecture.md)
///   ObserverPolicy     NoObserver, EntropyObserver, OutlierObserver, EntropyRegularizer, Observers
///
/// All memory is taken by the constructor; no pass allocates.
template <DecoderConfig Config, class NormPolicy, class ActivationPolicy, class DeviceTag,
          class ObserverPolicy>
class Decoder {
  static_assert(SizesArePositive<Config>,
                "lnfree: layers, heads, width, ffn_width, context and vocab_size must all be positive");
  static_assert(WidthIsAMultipleOfHeads<Config>,
                "lnfree: width must be a multiple of heads, since each head gets width / heads channels");
  static_assert(PositionsCoverTheContext<Config>,
                "lnfree: positions must be at least context, or 0 to mean context");
  static_assert(Named<NormPolicy>,
                "lnfree: the norm lacks `static constexpr std::string_view name` (docs/adding-a-norm.md)");
  static_assert(!Named<NormPolicy> || std::is_same_v<NormPolicy, Identity> || !HasRowStatistics<NormPolicy> ||
                    RowNorm<NormPolicy>,
                "lnfree: a norm with statistics() must offer `template <class T> static T value(T x, "
                "RowStatistics<T> row)`, with `const T (&p)[K]` after it for its K parameters "
                "(docs/adding-a-norm.md)");
  static_assert(!Named<NormPolicy> || std::is_same_v<NormPolicy, Identity> || HasRowStatistics<NormPolicy> ||
                    PointwiseNorm<NormPolicy>,
                "lnfree: the norm must be Identity, or offer `template <class T> static T value(T x)`, with "
                "`const T (&p)[K]` after x for its K parameters, or with statistics() for what it knows of a row "
                "(docs/adding-a-norm.md)");
  static_assert(
      ActivationOfLayers<ActivationPolicy>,
      "lnfree: the activation must offer name, saved, value and derivative (docs/adding-an-activation.md)");
  static_assert(RotaryDimsFitTheHead<Config>,
                "lnfree: rotary_dims must be even and at most width / heads, or 0 for learned positions");
  static_assert(lnfree::Backend<DeviceTag>,
                "lnfree: the device lacks a primitive of backend/primitives.hpp (is its header included?)");
  static_assert(
      lnfree::Observer<ObserverPolicy>,
      "lnfree: the observer must offer observes_entropy, observes_stream, reset() and a constructor "
      "from a number of layers and of heads (docs/adding-an-observer.md)");
  static_assert(RecordsEntropies<ObserverPolicy, typename DeviceTag::Accumulator>,
                "lnfree: an observer of entropies must offer record(shape, entropy_sums, finite_rows) "
                "(docs/adding-an-observer.md)");
  static_assert(
      RecordsLayers<ObserverPolicy, typename DeviceTag::Accumulator>,
      "lnfree: an observer of the stream must offer record_layer(layer, rows, column_squares, hidden, "
      "zeros) (docs/adding-an-observer.md)");

 public:
  using Norm = NormPolicy;
  using FinalNormPolicy =
      std::conditional_t<Config.final_norm == FinalNorm::layer_norm, LayerNorm, NormPolicy>;
  using Activation = ActivationPolicy;
  using Device = DeviceTag;
  using Observer = ObserverPolicy;
  using Scalar = typename Device::Scalar;
  using Accumulator = typename Device::Accumulator;
  static constexpr DecoderConfig config = Config;

  /// Plans and takes the memory for passes of up to `max_batch` sequences. Parameters are zero until
  /// initialize(), load_weights() or parameters().write(), and every pass throws Error while they all are.
  /// Throws Error when there is too little memory.
  explicit Decoder(int max_batch, Purpose purpose = Purpose::training, Device device = {})
      : Decoder(Unplaced{}, max_batch, purpose, std::move(device)) {
    parameters_.allocate(device_, purpose == Purpose::training);
    activations_ = Buffer<Device>(device_, memory_.activations);
    Arena placed(activations_.data());
    plan(placed);
    host_losses_.resize(static_cast<std::size_t>(most_.rows()));
    if constexpr (Observer::observes_entropy) {
      host_entropy_sums_.resize(static_cast<std::size_t>(heads(most_)));
      host_finite_rows_.resize(host_entropy_sums_.size());
    }
    if constexpr (Observer::observes_stream) host_column_squares_.resize(Config.width);
  }

  /// The memory that a model built with the same arguments takes on the device; takes none itself.
  static MemoryPlan plan_memory(int max_batch, Purpose purpose = Purpose::training, Device device = {}) {
    return Decoder(Unplaced{}, max_batch, purpose, std::move(device)).memory();
  }

  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;

  /// Draws the initial weights; the same seed gives the same weights on every device.
  void initialize(std::uint64_t seed, double std = Config.init_std()) {
    parameters_.initialize(device_, seed, std);
  }

  /// Mean cross-entropy in nats over the batch's targets, dropout off.
  double loss(const Batch& batch, bool observe = true) {
    upload(batch);
    embedding_.forward(device_, batch.shape, tokens_, Dropout{});
    const Matrix<Scalar> x = forward(batch.shape, {observe, observe});
    head_->forward(device_, final_norm_->forward(device_, x), targets_, losses_);
    if (observe) record_entropies(batch.shape);
    return mean_loss(batch);
  }

  /// Mean cross-entropy in nats over the batch's targets; adds the gradient of gradient_scale times it to
  /// every parameter's.
  double forward_backward(const Batch& batch, const PassOptions& options = {}) {
    if (purpose_ != Purpose::training)
      throw Error("forward_backward needs a model built with Purpose::training");
    upload(batch);
    const BatchShape shape = batch.shape;
    const Index counted =
        std::count_if(batch.targets.begin(), batch.targets.end(), [](auto t) { return t >= 0; });
    const Pass pass{
        shape,
        {.entropies = options.observe || EntropyRegularizing<Observer>, .records = options.observe},
        options.gradient_scale,
        counted == 0 ? 0.0 : options.gradient_scale / static_cast<double>(counted)};
    const auto work = [&] { blocks_and_head(pass); };
    embedding_.forward(device_, shape, tokens_, options.dropout);
    if (EntropyRegularizing<Observer> || (Observer::observes_stream && options.observe)) {
      work();  // reads from the device on its way
    } else {
      recording_.run(device_, pass, work);
    }
    embedding_.backward(device_, shape, tokens_, d_stream_.top(shape.rows()), options.dropout);
    if (options.observe) record_entropies(shape);
    return mean_loss(batch);
  }

  /// The logits (V) that follow `tokens`, of which the last `context` count; at least one token.
  std::vector<double> next_logits(std::span<const std::int32_t> tokens) {
    if (tokens.empty()) throw Error("next_logits needs at least one token");
    const auto window = tokens.last(std::min<std::size_t>(tokens.size(), Config.context));
    const BatchShape shape{1, static_cast<int>(window.size())};
    parameters_.require_values(device_);
    check_tokens(window);
    copy_to_device(device_, tokens_, window.data(), window.size_bytes());
    embedding_.forward(device_, shape, tokens_, Dropout{});
    const Matrix<const Scalar> x = forward(shape, {});
    const Matrix<const Scalar> logits =
        head_->logits(device_, final_norm_->forward(device_, x).slice(x.rows - 1, 1));
    std::vector<Scalar> host(static_cast<std::size_t>(logits.cols));
    copy_to_host(device_, host.data(), logits.data, host.size() * sizeof(Scalar));
    return {host.begin(), host.end()};
  }

  ParameterSet<Device>& parameters() { return parameters_; }
  const ParameterSet<Device>& parameters() const { return parameters_; }
  Observer& observer() { return observer_; }
  const Observer& observer() const { return observer_; }
  Device& device() { return device_; }
  int max_batch() const { return most_.batch; }

  /// Bytes of device memory that the model holds.
  const MemoryPlan& memory() const { return memory_; }

 private:
  struct Unplaced {};

  /// A model whose memory is planned and not yet taken.
  Decoder(Unplaced, int max_batch, Purpose purpose, Device device)
      : device_(std::move(device)),
        purpose_(purpose),
        most_{max_batch, Config.context},
        embedding_(parameters_, Config),
        observer_(Config.layers, Config.heads) {
    math::require_exact_rounding();
    if (max_batch < 1) throw Error("the batch size must be at least 1, not " + std::to_string(max_batch));
    Parameter<Device>* shared_slope = nullptr;
    if constexpr (LearnableActivation<Activation>) {
      if (Activation::scope == Scope::global) {
        shared_slope = &FeedForward<Activation, Device>::template add_slope<Activation>(parameters_, "act");
      }
    }
    blocks_.reserve(Config.layers);
    for (int l = 0; l < Config.layers; ++l) {
      blocks_.emplace_back(parameters_, "h." + std::to_string(l), Config, l, shared_slope);
    }
    final_norm_.emplace(parameters_, "ln_f", Config.width, NormSite::final_norm);
    head_.emplace(parameters_, Config, embedding_.token_table());
    if constexpr (EntropyRegularizing<Observer>) regularization_.emplace(parameters_, Config);

    Arena counted;
    plan(counted);
    memory_.parameters = parameters_.value_bytes();
    if (purpose == Purpose::training) memory_.gradients = parameters_.gradient_bytes();
    memory_.activations = counted.peak();
  }

  static Index heads(BatchShape shape) { return Index{Config.layers} * shape.batch * Config.heads; }

  void plan(Arena& arena) {
    const Index rows = most_.rows();
    tokens_ = arena.take<std::int32_t>(rows);
    targets_ = arena.take<std::int32_t>(rows);
    losses_ = arena.take<Accumulator>(rows);
    if constexpr (Observer::observes_entropy) {
      entropy_rows_ = arena.take<Accumulator>(heads(most_) * most_.length);
      entropy_sums_ = arena.take<Accumulator>(heads(most_));
      finite_rows_ = arena.take<std::int32_t>(heads(most_));
    }
    if constexpr (Observer::observes_stream) column_squares_ = arena.take<Accumulator>(Config.width);
    const bool trains = purpose_ == Purpose::training;
    const AttentionShape heads_of_layer{most_.batch, most_.length, Config.heads, Config.head_dim()};
    scratch_.plan(arena, rows, attention_workspace(device_, heads_of_layer), Config, trains);
    if (trains) d_stream_ = arena.matrix<Scalar>(rows, Config.width);
    if (trains && regularization_) regularization_->plan(arena, most_);
    embedding_.plan(arena, most_);
    const std::size_t first_block = arena.used();
    for (auto& block : blocks_) {
      // Without a backward pass a block's activations are dead when the next one begins.
      if (purpose_ == Purpose::evaluation) arena.rewind(first_block);
      block.plan(arena, most_, Config);
    }
    final_norm_->plan(arena, rows, Config.width);
    head_->plan(arena, most_);
  }

  void check_tokens(std::span<const std::int32_t> tokens) const {
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      if (tokens[i] < 0 || tokens[i] >= Config.vocab_size) {
        throw Error("token " + std::to_string(tokens[i]) + " at position " + std::to_string(i) +
                    " of a batch is outside the model's vocabulary of " + std::to_string(Config.vocab_size));
      }
    }
  }

  void upload(const Batch& batch) {
    parameters_.require_values(device_);
    const BatchShape shape = batch.shape;
    if (shape.batch < 1 || shape.batch > most_.batch || shape.length < 1 || shape.length > most_.length) {
      throw Error("a batch of " + std::to_string(shape.batch) + " x " + std::to_string(shape.length) +
                  " tokens does not fit this model, which was built for up to " +
                  std::to_string(most_.batch) + " x " + std::to_string(most_.length));
    }
    const auto rows = static_cast<std::size_t>(shape.rows());
    if (batch.tokens.size() != rows || batch.targets.size() != rows) {
      throw Error("a batch of " + std::to_string(shape.batch) + " x " + std::to_string(shape.length) +
                  " needs " + std::to_string(rows) + " tokens and targets, not " +
                  std::to_string(batch.tokens.size()) + " and " + std::to_string(batch.targets.size()));
    }
    check_tokens(batch.tokens);
    for (const std::int32_t target : batch.targets) {
      if (target >= Config.vocab_size) {
        throw Error("target " + std::to_string(target) + " is outside the model's vocabulary of " +
                    std::to_string(Config.vocab_size));
      }
    }
    copy_to_device(device_, tokens_, batch.tokens.data(), batch.tokens.size_bytes());
    copy_to_device(device_, targets_, batch.targets.data(), batch.targets.size_bytes());
  }

  /// The entropies of all layers' heads, (L B H, T).
  Matrix<const Accumulator> row_entropies(BatchShape shape) const {
    return {entropy_rows_, heads(shape), shape.length};
  }

  /// What a forward pass does besides.
  struct Watch {
    bool entropies = false;  ///< Computes the heads' entropies, in a model whose observer has a use for them.
    bool records = false;    ///< Tells the observer.
    bool operator==(const Watch&) const = default;
  };

  /// All that the work of a pass depends on, between the embedding's two parts in it.
  struct Pass {
    BatchShape shape;
    Watch watch;
    double gradient_scale;
    double loss_scale;  ///< Of the gradient of a single target's loss.
    bool operator==(const Pass&) const = default;
  };

  /// From the embedding's output to the losses, and from there to the gradient of that output, in d_stream_.
  void blocks_and_head(const Pass& pass) {
    const BatchShape shape = pass.shape;
    const Matrix<const Scalar> x = forward(shape, pass.watch);
    const Output<Scalar> d_x = d_stream_.top(x.rows);
    const Output<Scalar> d_final = final_norm_->gradient_of_output(d_x, scratch_.norm);
    head_->forward_backward(device_, final_norm_->forward(device_, x), targets_, losses_, pass.loss_scale,
                            d_final);
    final_norm_->backward(device_, x, d_final, d_x);
    if constexpr (EntropyRegularizing<Observer>) {
      observer_.record_penalty(regularization_->forward_backward(device_, shape, observer_.options(),
                                                                 row_entropies(shape), pass.gradient_scale));
    }
    for (int l = Config.layers - 1; l >= 0; --l) {
      const Matrix<const Scalar> input = l == 0 ? embedding_.output(x.rows) : block(l - 1).output(x.rows);
      if constexpr (EntropyRegularizing<Observer>) {
        const Index first = l * shape.rows() * Config.heads;
        const EntropyGradients<Accumulator> entropies{entropy_rows_ + first,
                                                      regularization_->d_rows() + first};
        block(l).backward(device_, shape, input, d_x.matrix, scratch_, entropies);
      } else {
        block(l).backward(device_, shape, input, d_x.matrix, scratch_, Unobserved{});
      }
    }
  }

  Block<Norm, Activation, Device>& block(int layer) { return blocks_[static_cast<std::size_t>(layer)]; }

  /// The residual stream (B, T, C) after the last block, from the embedding's output.
  Matrix<Scalar> forward(BatchShape shape, Watch watch) {
    Matrix<Scalar> x = embedding_.output(shape.rows());
    for (int l = 0; l < Config.layers; ++l) {
      x = forward(block(l), l, shape, x, watch);
      if (watch.records) record_layer(l, x, block(l).hidden(x.rows));
    }
    return x;
  }

  Matrix<Scalar> forward(Block<Norm, Activation, Device>& block, [[maybe_unused]] int layer, BatchShape shape,
                         Matrix<const Scalar> x, [[maybe_unused]] Watch watch) {
    if constexpr (Observer::observes_entropy) {
      if (watch.entropies) {
        const RowEntropies<Accumulator> here{entropy_rows_ + layer * shape.rows() * Config.heads};
        return block.forward(device_, shape, x, scratch_, here);
      }
    }
    return block.forward(device_, shape, x, scratch_, Unobserved{});
  }

  void record_layer([[maybe_unused]] int layer, [[maybe_unused]] Matrix<const Scalar> x,
                    [[maybe_unused]] Matrix<const Scalar> hidden) {
    if constexpr (Observer::observes_stream) {
      column_squares(device_, x, column_squares_);
      copy_to_host(device_, host_column_squares_.data(), column_squares_, Config.width * sizeof(Accumulator));
      observer_.record_layer(layer, x.rows, host_column_squares_, hidden.size(),
                             count_zeros(device_, hidden));
    }
  }

  void record_entropies([[maybe_unused]] BatchShape shape) {
    if constexpr (Observer::observes_entropy) {
      const auto count = static_cast<std::size_t>(heads(shape));
      entropy_sums(device_, row_entropies(shape), entropy_sums_, finite_rows_);
      copy_to_host(device_, host_entropy_sums_.data(), entropy_sums_, count * sizeof(Accumulator));
      copy_to_host(device_, host_finite_rows_.data(), finite_rows_, count * sizeof(std::int32_t));
      observer_.record(shape, host_entropy_sums_.data(), host_finite_rows_.data());
    }
  }

  double mean_loss(const Batch& batch) {
    copy_to_host(device_, host_losses_.data(), losses_, batch.targets.size() * sizeof(Accumulator));
    double sum = 0;
    Index counted = 0;
    for (std::size_t i = 0; i < batch.targets.size(); ++i) {
      sum += static_cast<double>(host_losses_[i]);
      counted += batch.targets[i] >= 0;
    }
    return counted == 0 ? 0.0 : sum / static_cast<double>(counted);
  }

  Device device_;
  Purpose purpose_;
  BatchShape most_;
  MemoryPlan memory_;
  ParameterSet<Device> parameters_;
  Embedding<Device> embedding_;
  std::vector<Block<Norm, Activation, Device>> blocks_;
  std::optional<Normalization<FinalNormPolicy, Device>> final_norm_;
  std::optional<OutputHead<Device>> head_;
  std::optional<EntropyRegularization<Device>> regularization_;
  Observer observer_;

  Buffer<Device> activations_;
  Recording<Device, Pass> recording_;
  BlockScratch<Device> scratch_;
  Matrix<Scalar> d_stream_;  // (B, T, C), gradient of the residual stream
  std::int32_t* tokens_ = nullptr;
  std::int32_t* targets_ = nullptr;
  Accumulator* losses_ = nullptr;
  Accumulator* entropy_rows_ = nullptr;    // (L, B, H, T)
  Accumulator* entropy_sums_ = nullptr;    // (L, B, H)
  std::int32_t* finite_rows_ = nullptr;    // (L, B, H)
  Accumulator* column_squares_ = nullptr;  // (C)
  std::vector<Accumulator> host_losses_;
  std::vector<Accumulator> host_entropy_sums_;
  std::vector<std::int32_t> host_finite_rows_;
  std::vector<Accumulator> host_column_squares_;
};

/// The same architecture and policies as `Model`, on another device.
template <class Model, class Device>
using OnDevice = Decoder<Model::config, typename Model::Norm, typename Model::Activation, Device,
                         typename Model::Observer>;

}  // namespace lnfree
