#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include <lnfree/core/concepts.hpp>
#include <lnfree/core/error.hpp>
#include <lnfree/core/math.hpp>
#include <lnfree/core/memory.hpp>
#include <lnfree/core/recording.hpp>
#include <lnfree/core/rounded_weights.hpp>
#include <lnfree/device/primitives.hpp>
#include <lnfree/nn/block.hpp>
#include <lnfree/nn/decoder_parts.hpp>
#include <lnfree/nn/embedding.hpp>
#include <lnfree/nn/key_value_cache.hpp>
#include <lnfree/nn/observation.hpp>
#include <lnfree/nn/output_head.hpp>
#include <lnfree/objective/cross_entropy.hpp>
#include <lnfree/objective/objective.hpp>
#include <lnfree/observer/no_observer.hpp>

namespace lnfree {

/// B sequences of T tokens, (B, T) row by row, and for each token the next one, which the model is to
/// predict; negative targets are ignored.
struct Batch {
  /// The number of sequences and their length.
  BatchShape shape;
  /// B T token ids.
  std::span<const std::int32_t> tokens;
  /// B T target ids.
  std::span<const std::int32_t> targets;
};

/// What a model is built for.
enum class Purpose {
  training,
  evaluation,  ///< Without gradients, and without keeping the activations of every layer.
  generation   ///< Like evaluation of one sequence at a time, with a key/value cache for as many texts as the
               ///< model has sequences.
};

/// Run-time choices of one forward and backward pass.
struct PassOptions {
  double gradient_scale = 1;  ///< Multiplies the gradient of the mean loss: 1 / gradient accumulation steps.
  Dropout dropout = {};       ///< Of the embedding.
  bool observe = true;        ///< Whether the observer records this pass.
};

/// A decoder-only transformer whose sizes and policies are chosen at run time: the base of Decoder. For
/// programs that open any model a user has. Sizes are checked only at run time.
///
///   DeviceTag          a device, whose primitives compute (docs/architecture.md)
///   ObserverPolicy     as of Decoder
///   ObjectivePolicy    as of Decoder
///
/// The constructor allocates all memory; no pass allocates.
template <class DeviceTag, class ObserverPolicy = NoObserver,
          template <class> class ObjectivePolicy = CrossEntropy>
class DynamicDecoder {
  static_assert(lnfree::Device<DeviceTag>,
                "lnfree: the device lacks a primitive of device/primitives.hpp (is its header included?)");
  static_assert(
      lnfree::Objective<ObjectivePolicy<DeviceTag>, DeviceTag>,
      "lnfree: the objective must offer name and a constructor from ParameterSet<Device>& and const "
      "DecoderConfig& (docs/change.md)");
  static_assert(!lnfree::Objective<ObjectivePolicy<DeviceTag>, DeviceTag> ||
                    AddsToTheLoss<ObjectivePolicy<DeviceTag>, DeviceTag> ||
                    std::is_same_v<ObjectivePolicy<DeviceTag>, CrossEntropy<DeviceTag>>,
                "lnfree: the objective offers none of on_entropies, on_hidden, on_stream, on_state and "
                "on_logits with the arguments described in objective/objective.hpp (docs/change.md)");

 public:
  using Device = DeviceTag;
  /// What is observed.
  using Observer = ObserverPolicy;
  /// What is minimized.
  using Objective = ObjectivePolicy<DeviceTag>;
  using Scalar = typename Device::Scalar;
  using Accumulator = typename Device::Accumulator;

  /// What a pass does after each block where nobody asks.
  struct NothingAfterBlocks {
    /// Does nothing.
    void operator()(int, Matrix<const Scalar>) const {}
  };

  /// The sizes.
  const DecoderConfig config;

  /// Plans and allocates the memory for passes of up to `max_batch` sequences. Parameters are zero until
  /// initialize(), load_weights() or parameters().write(); while all are zero, every pass throws Error.
  /// Throws Error if there is too little memory or the sizes are invalid.
  DynamicDecoder(const DecoderConfig& sizes, const DecoderParts<Device>& parts, int max_batch,
                 Purpose purpose = Purpose::training, Device device = {})
      : DynamicDecoder(Unplaced{}, sizes, parts, max_batch, purpose, std::move(device)) {
    parameters_.allocate(device_, purpose == Purpose::training);
    activations_ = Buffer<Device>(device_, memory_.activations);
    Arena placed(activations_.data());
    plan(placed);
    host_losses_.resize(static_cast<std::size_t>(max_shape_.rows()));
    observation_.allocate();
    if (keeps_texts()) cache_ = KeyValueCache(max_batch, config.context);
  }

  /// The device memory that a model built with the same arguments takes; allocates nothing.
  static MemoryPlan plan_memory(const DecoderConfig& sizes, const DecoderParts<Device>& parts, int max_batch,
                                Purpose purpose = Purpose::training, Device device = {}) {
    return DynamicDecoder(Unplaced{}, sizes, parts, max_batch, purpose, std::move(device)).memory();
  }

  /// The parameters of a model of these sizes and parts; allocates no device memory.
  static std::vector<TensorShape> tensor_shapes(const DecoderConfig& sizes,
                                                const DecoderParts<Device>& parts) {
    std::vector<TensorShape> shapes;
    const DynamicDecoder model(Unplaced{}, sizes, parts, 1, Purpose::evaluation, Device());
    for (const auto& parameter : model.parameters().all())
      shapes.push_back({parameter.name, parameter.shape});
    return shapes;
  }

  DynamicDecoder(const DynamicDecoder&) = delete;
  DynamicDecoder& operator=(const DynamicDecoder&) = delete;

  /// Draws the initial weights at random; the same seed gives the same weights on every device.
  void initialize(std::uint64_t seed, double std) { parameters_.initialize(device_, seed, std); }
  /// The same with the standard deviation config.init_std().
  void initialize(std::uint64_t seed) { initialize(seed, config.init_std()); }

  /// Mean cross-entropy in nats over the batch's targets, without dropout.
  double loss(const Batch& batch, bool observe = true) {
    upload(batch);
    embedding_.forward(device_, batch.shape, tokens_, Dropout{});
    const Matrix<const Scalar> x = normalized(forward(batch.shape, {observe, observe}));
    head_.forward(device_, x, [&](Index first, Matrix<Scalar> logits) {
      if (observe) observation_.logits(device_, first, logits);
      cross_entropy_forward(device_, logits, targets_ + first, losses_ + first);
    });
    const double mean = mean_loss(batch);
    if (observe) observation_.pass(device_, batch.shape, host_losses_.data(), batch.targets.data());
    return mean;
  }

  /// Mean cross-entropy in nats over the batch's targets; adds the gradient of this loss and of the
  /// objective's penalty, times gradient_scale, to the gradients of all parameters.
  double forward_backward(const Batch& batch, const PassOptions& options = {}) {
    if (purpose_ != Purpose::training)
      throw Error("forward_backward needs a model built with Purpose::training");
    upload(batch);
    const BatchShape shape = batch.shape;
    const Index counted =
        std::count_if(batch.targets.begin(), batch.targets.end(), [](auto t) { return t >= 0; });
    const Pass pass{
        shape,
        {.entropies = options.observe || PenalizesEntropies<Objective, Device>, .records = options.observe},
        options.gradient_scale,
        counted == 0 ? 0.0 : options.gradient_scale / static_cast<double>(counted)};
    const auto work = [&] { blocks_and_head(pass); };
    embedding_.forward(device_, shape, tokens_, options.dropout);
    if (AddsToTheLoss<Objective, Device> || (Observes<Observer>::during_the_pass && options.observe)) {
      work();  // reads from the device during the pass, so it cannot be recorded
    } else {
      recording_.run(device_, pass, work);
    }
    embedding_.backward(device_, shape, tokens_, d_embedding_.top(shape.rows()), options.dropout);
    const double mean = mean_loss(batch);
    if (options.observe) observation_.pass(device_, shape, host_losses_.data(), batch.targets.data());
    return mean;
  }

  /// What the objective added to the mean loss in the last training pass.
  double penalty() const { return penalty_; }

  /// The logits (V) of the token after `tokens`, of which there must be at least one and the last `context`
  /// are used.
  ///
  /// A model built for generation computes only the tokens from the first difference to the previous call on:
  /// for a growing text, only what was added. When the text outgrows the context, the oldest half of the
  /// context is dropped and the rest is read again, so the model uses between half a context and a full one.
  std::vector<double> next_logits(std::span<const std::int32_t> tokens) {
    if (tokens.empty()) throw Error("next_logits needs at least one token");
    prepare_weights();
    if (purpose_ == Purpose::generation) {
      const CachedText text{0, tokens};
      return std::move(next_logits_of({&text, 1}).front());
    }
    const auto window = tokens.last(std::min(tokens.size(), static_cast<std::size_t>(config.context)));
    check_tokens(window);
    const BatchShape shape{1, static_cast<int>(window.size())};
    copy_to_device(device_, tokens_, window.data(), window.size_bytes());
    embedding_.forward(device_, shape, tokens_, Dropout{});
    const Matrix<const Scalar> x = normalized(forward(shape, {}));
    std::vector<std::vector<double>> logits(1);
    read_logits(x.slice(x.rows - 1, 1), [&](Index) -> auto& { return logits.front(); });
    return std::move(logits.front());
  }

  /// The logits (V) of the next token of each text. Requires a model built for generation, and a different
  /// slot for each text. Each text uses the cache as in next_logits(). Texts that have grown by one token
  /// share a pass, up to `texts_together` of them, which reads each weight only once. If the device's
  /// products of few rows compute each row independently, the logits of a text do not depend on the other
  /// texts, bit for bit.
  std::vector<std::vector<double>> next_logits_of(std::span<const CachedText> texts) {
    if (purpose_ != Purpose::generation)
      throw Error("next_logits_of needs a model built with Purpose::generation");
    prepare_weights();
    const std::vector<TextPart> parts = cache_.parts_of(texts, parameters_.writes());
    for (const TextPart& part : parts) check_tokens(part.window);

    std::vector<std::vector<double>> logits(texts.size());
    std::vector<std::size_t> grown;
    for (std::size_t i = 0; i < parts.size(); ++i) {
      if (parts[i].rows() == 1) {
        grown.push_back(i);
      } else {
        continue_texts(parts, {&i, 1}, logits);
      }
    }
    for (std::size_t i = 0; i < grown.size(); i += texts_together) {
      const std::size_t count = std::min<std::size_t>(texts_together, grown.size() - i);
      continue_texts(parts, std::span(grown).subspan(i, count), logits);
    }
    return logits;
  }

  /// The largest number of texts that share a pass.
  static constexpr int texts_together = 16;

  /// Drops what was read for generation: after weights were changed other than by parameters().write().
  void forget() { cache_.forget(); }
  /// Empties one slot of the cache. Call it before the slot gets an unrelated text: a beginning that both
  /// texts share would otherwise be reused, and the rest read in a pass of another size, which may round
  /// differently.
  void forget(int slot) { cache_.forget(slot); }

  /// The input of the output head (B T, C) in a pass over `tokens` (B T) in device memory; valid until the
  /// next pass. For distillation from this model. Calls after_block(layer, x) after each block, with the
  /// stream x (B T, C), which is valid during the call.
  template <class F = NothingAfterBlocks>
  Matrix<const Scalar> last_hidden(BatchShape shape, const std::int32_t* tokens, const F& after_block = {}) {
    prepare_weights();
    check_shape(shape);
    forget();
    embedding_.forward(device_, shape, tokens, Dropout{});
    return normalized(forward(shape, {}, after_block));
  }

  /// The logits of the first rows of x, one chunk; the caller may overwrite them, and they are valid until
  /// the next call.
  Matrix<Scalar> logits_of(Matrix<const Scalar> x) { return head_.logits(device_, x); }

  /// Calls f(norm) for each norm, a NormLayer, from the first block to the final norm.
  template <class F>
  void for_each_norm(const F& f) {
    for (auto& block : blocks_) block.for_each_norm(f);
    if (has_final_norm()) f(*final_norm_);
  }

  /// All parameters with their gradients.
  ParameterSet<Device>& parameters() { return parameters_; }
  /// All parameters with their gradients.
  const ParameterSet<Device>& parameters() const { return parameters_; }
  /// What was measured in the passes since its reset().
  Observer& observer() { return observation_.observer(); }
  /// What was measured in the passes since its reset().
  const Observer& observer() const { return observation_.observer(); }
  /// What is added to the cross-entropy, with its options.
  Objective& objective() { return objective_; }
  /// What is added to the cross-entropy, with its options.
  const Objective& objective() const { return objective_; }
  /// The device that computes.
  Device& device() { return device_; }
  /// The maximum number of sequences in a pass; of a model for generation, the most texts that are kept.
  int max_batch() const { return max_batch_; }

  /// Bytes of device memory that the model holds.
  const MemoryPlan& memory() const { return memory_; }

 private:
  struct Unplaced {};

  static const DecoderConfig& checked(const DecoderConfig& sizes) {
    const auto require = [](bool holds, const char* what) {
      if (!holds) throw Error(std::string("no model has these sizes: ") + what);
    };
    require(sizes_are_positive(sizes),
            "layers, heads, width, ffn_width, context and vocab_size must all be positive");
    require(width_is_a_multiple_of_heads(sizes), "width must be a multiple of heads");
    require(positions_cover_the_context(sizes), "positions must be at least context, or 0 to mean context");
    require(rotary_dims_fit_the_head(sizes), "rotary_dims must be even and at most width / heads, or 0");
    return sizes;
  }

  /// What a forward pass does besides computing the stream.
  struct Watch {
    bool entropies = false;  ///< Computes the heads' entropies, in a model that uses them.
    bool records = false;    ///< Passes data to the observer.
    bool operator==(const Watch&) const = default;
  };

  /// Everything that the work between the embedding's forward and backward pass depends on.
  struct Pass {
    BatchShape shape;
    Watch watch;
    double gradient_scale;
    double loss_scale;  ///< Scale of the gradient of a single target's loss.
    bool operator==(const Pass&) const = default;
  };

  /// A model whose memory is planned but not yet allocated.
  DynamicDecoder(Unplaced, const DecoderConfig& sizes, const DecoderParts<Device>& parts, int max_batch,
                 Purpose purpose, Device device)
      : config(checked(sizes)),
        device_(std::move(device)),
        purpose_(purpose),
        max_batch_(max_batch),
        max_shape_{keeps_texts() ? 1 : max_batch, config.context},
        embedding_(parameters_, config),
        blocks_(make_blocks(parameters_, config, parts)),
        final_norm_(parts.final_norm == nullptr
                        ? nullptr
                        : parts.final_norm(parameters_, "ln_f", config.width, NormSite::final_norm)),
        head_(parameters_, config, embedding_.token_table()),
        objective_(parameters_, config),
        observation_(config) {
    math::require_exact_rounding();
    if (max_batch < 1) throw Error("the batch size must be at least 1, not " + std::to_string(max_batch));
    Arena counted;
    plan(counted);
    memory_.parameters = parameters_.value_bytes();
    if (purpose == Purpose::training) memory_.gradients = parameters_.gradient_bytes();
    memory_.activations = counted.peak();
  }

  static std::vector<Block<Device>> make_blocks(ParameterSet<Device>& parameters, const DecoderConfig& config,
                                                const DecoderParts<Device>& parts) {
    std::vector<Block<Device>> blocks;
    blocks.reserve(static_cast<std::size_t>(config.layers));
    for (int l = 0; l < config.layers; ++l)
      blocks.emplace_back(parameters, "h." + std::to_string(l), config, parts, l);
    return blocks;
  }

  void plan(Arena& arena) {
    // Of texts that are kept, one is read at a time, or a token each of several.
    const BatchShape max_shape =
        keeps_texts() ? BatchShape{1, std::max(config.context, std::min(texts_together, max_batch()))}
                      : max_shape_;
    const Index rows = max_shape.rows();
    const bool trains = purpose_ == Purpose::training;
    tokens_ = arena.take<std::int32_t>(rows);
    targets_ = arena.take<std::int32_t>(rows);
    losses_ = arena.take<Accumulator>(rows);
    // Most passes that generate have a single row, for which rounding does not pay.
    if (purpose_ != Purpose::generation) {
      rounded_weights_.plan(arena, parameters_.matrices(ParameterKind::weight), rows);
      rounded_weights_.plan_output_matrix(arena, head_.weight(),
                                          logits_chunk<Device>(max_shape, config.vocab_size).rows);
    }
    observation_.plan(arena, max_shape);
    const AttentionShape heads_of_layer{max_shape.batch, max_shape.length, config.heads, config.head_dim()};
    const int buffers = std::max(blocks_.front().gradient_buffers(), has_final_norm() ? 2 : 1);
    scratch_.plan(arena, rows, attention_workspace(device_, heads_of_layer), config, trains ? buffers : 0);
    if (trains) {
      if constexpr (PenalizesEntropies<Objective, Device>)
        d_entropies_ = arena.take<Accumulator>(config.layers * rows * config.heads);
      if constexpr (requires { objective_.plan(arena, max_shape_, config); })
        objective_.plan(arena, max_shape, config);
    }
    embedding_.plan(arena, max_shape);
    if (keeps_texts()) {
      for (auto& block : blocks_) block.plan_keys_and_values(arena, max_batch(), config.context);
    }
    const std::size_t first_block = arena.used();
    for (auto& block : blocks_) {
      // Without a backward pass, a block's activations are not needed once the next one begins.
      if (!trains) arena.rewind(first_block);
      block.plan(arena, max_shape, config);
    }
    if (has_final_norm()) {
      final_norm_->plan(arena, rows);
      normalized_ = arena.matrix<Scalar>(rows, config.width);
    }
    head_.plan(arena, max_shape);
  }

  void check_tokens(std::span<const std::int32_t> tokens) const {
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      if (tokens[i] < 0 || tokens[i] >= config.vocab_size) {
        throw Error("token " + std::to_string(tokens[i]) + " at position " + std::to_string(i) +
                    " of a batch is outside the model's vocabulary of " + std::to_string(config.vocab_size));
      }
    }
  }

  void check_shape(BatchShape shape) const {
    if (shape.batch >= 1 && shape.batch <= max_shape_.batch && shape.length >= 1 &&
        shape.length <= max_shape_.length)
      return;
    throw Error("a batch of " + std::to_string(shape.batch) + " x " + std::to_string(shape.length) +
                " tokens does not fit this model, which was built for up to " +
                std::to_string(max_shape_.batch) + " x " + std::to_string(max_shape_.length));
  }

  /// Checks a batch, prepares the weights and copies the batch to the device.
  void upload(const Batch& batch) {
    forget();
    prepare_weights();
    const BatchShape shape = batch.shape;
    check_shape(shape);
    const auto rows = static_cast<std::size_t>(shape.rows());
    if (batch.tokens.size() != rows || batch.targets.size() != rows) {
      throw Error("a batch of " + std::to_string(shape.batch) + " x " + std::to_string(shape.length) +
                  " needs " + std::to_string(rows) + " tokens and targets, not " +
                  std::to_string(batch.tokens.size()) + " and " + std::to_string(batch.targets.size()));
    }
    check_tokens(batch.tokens);
    for (const std::int32_t target : batch.targets) {
      if (target >= config.vocab_size) {
        throw Error("target " + std::to_string(target) + " is outside the model's vocabulary of " +
                    std::to_string(config.vocab_size));
      }
    }
    copy_to_device(device_, tokens_, batch.tokens.data(), batch.tokens.size_bytes());
    copy_to_device(device_, targets_, batch.targets.data(), batch.targets.size_bytes());
  }

  /// Call before each pass: checks that there are weights, and rounds them for devices that do so.
  void prepare_weights() {
    parameters_.require_values(device_);
    rounded_weights_.update(device_, parameters_.writes());
  }

  /// Reads what is new of the chosen texts in one pass.
  void continue_texts(std::span<const TextPart> all, std::span<const std::size_t> chosen,
                      std::vector<std::vector<double>>& logits) {
    std::vector<TextPart> parts;
    std::vector<std::int32_t> tokens;
    for (const std::size_t i : chosen) {
      parts.push_back(all[i]);
      tokens.insert(tokens.end(), all[i].tokens().begin(), all[i].tokens().end());
      forget(all[i].slot);
    }
    const std::span<const TextPart> texts = parts;
    copy_to_device(device_, tokens_, tokens.data(), tokens.size() * sizeof(std::int32_t));
    Matrix<Scalar> stream = embedding_.forward(device_, texts, tokens_);
    for (auto& block : blocks_) stream = block.forward(device_, texts, stream, scratch_, Unobserved{});
    const Matrix<const Scalar> x = normalized(stream);
    // Of a text that is read by itself the last row, of several the only one of each.
    const auto count = static_cast<Index>(chosen.size());
    read_logits(x.slice(x.rows - count, count),
                [&](Index row) -> auto& { return logits[chosen[static_cast<std::size_t>(row)]]; });
    for (const TextPart& part : parts) cache_.remember(part, parameters_.writes());
  }

  /// Writes the logits of each row of x to the vector that to(row) gives.
  template <class To>
  void read_logits(Matrix<const Scalar> x, const To& to) {
    std::vector<Scalar> host(static_cast<std::size_t>(config.vocab_size));
    head_.forward(device_, x, [&](Index first, Matrix<const Scalar> logits) {
      for (Index i = 0; i < logits.rows; ++i) {
        copy_to_host(device_, host.data(), logits.row(i), host.size() * sizeof(Scalar));
        to(first + i).assign(host.begin(), host.end());
      }
    });
  }

  bool keeps_texts() const { return purpose_ == Purpose::generation; }
  bool has_final_norm() const { return final_norm_ != nullptr; }
  Block<Device>& block(int layer) { return blocks_[static_cast<std::size_t>(layer)]; }

  /// The residual stream (B, T, C) after the last block, computed from the embedding's output.
  template <class F = NothingAfterBlocks>
  Matrix<Scalar> forward(BatchShape shape, Watch watch, const F& after_block = {}) {
    Matrix<Scalar> x = embedding_.output(shape.rows());
    if (watch.records) observation_.embedding(device_, shape, x);
    for (int l = 0; l < config.layers; ++l) {
      if (watch.entropies) {
        x = block(l).forward(device_, shape, x, scratch_, observation_.rows_of_layer(shape, l));
      } else {
        x = block(l).forward(device_, shape, x, scratch_, Unobserved{});
      }
      if (watch.records) observation_.layer(device_, shape, l, x, block(l));
      after_block(l, Matrix<const Scalar>(x));
    }
    if (watch.records) observation_.all_layers(device_, shape);
    return x;
  }

  /// The input of the output head, given the stream after the last block.
  Matrix<const Scalar> normalized(Matrix<const Scalar> x) {
    if (!has_final_norm()) return x;
    final_norm_->forward(device_, x, normalized_.top(x.rows));
    return normalized_.top(x.rows);
  }

  /// Runs the forward pass from the embedding's output to the losses, and the backward pass to the gradient
  /// of that output, in d_embedding_.
  void blocks_and_head(const Pass& pass) {
    const BatchShape shape = pass.shape;
    const Matrix<const Scalar> x = forward(shape, pass.watch);
    const TrainingPass training{shape, pass.gradient_scale, pass.loss_scale, tokens_, targets_};
    GradientBuffers<Scalar> gradients = scratch_.gradients.top(x.rows);
    penalty_ = 0;
    // Between two blocks, which then cannot round the gradient of the stream in the kernel that computes it.
    constexpr bool changes_gradients = PenalizesStates<Objective, Device>;

    head_.forward_backward(
        device_, normalized(x), gradients[has_final_norm() ? 1 : 0], [&](Index first, Matrix<Scalar> logits) {
          if (pass.watch.records) observation_.logits(device_, first, logits);
          if constexpr (ReplacesCrossEntropy<Objective, Device>) {
            penalty_ += objective_.on_logits(device_, training, first, logits, losses_ + first);
          } else {
            cross_entropy_forward_backward(device_, logits, targets_ + first, losses_ + first,
                                           pass.loss_scale);
          }
        });
    if (has_final_norm()) {
      if constexpr (!changes_gradients && !PenalizesStream<Objective, Device>)
        block(config.layers - 1).expect_gradient(device_, gradients[0]);
      final_norm_->backward(device_, x, gradients[1], gradients[0]);
    }
    if constexpr (PenalizesStream<Objective, Device>)
      penalty_ += objective_.on_stream(device_, training, x, gradients[0]);
    if constexpr (PenalizesEntropies<Objective, Device>) {
      const Matrix<const Accumulator> entropies = observation_.row_entropies(shape);
      penalty_ += objective_.on_entropies(device_, training, entropies,
                                          Matrix<Accumulator>(d_entropies_, entropies.rows, entropies.cols));
    }

    for (int l = config.layers - 1; l >= 0; --l) {
      if constexpr (PenalizesStates<Objective, Device>)
        penalty_ += objective_.on_state(device_, training, l, block(l).output(x.rows), gradients[0]);
      const Matrix<const Scalar> input = l == 0 ? embedding_.output(x.rows) : block(l - 1).output(x.rows);
      const auto penalize = [&]([[maybe_unused]] Matrix<const Scalar> hidden,
                                [[maybe_unused]] Matrix<Scalar> d_hidden) {
        if constexpr (PenalizesHidden<Objective, Device>)
          penalty_ += objective_.on_hidden(device_, training, l, hidden, d_hidden);
      };
      Block<Device>* const below = l > 0 && !changes_gradients ? &block(l - 1) : nullptr;
      block(l).backward(device_, shape, input, gradients, scratch_, entropy_gradients(shape, l), penalize,
                        below);
    }
    // All rows, since a replayed recording of another shape does not execute this line.
    d_embedding_ = {gradients[0].data, max_shape_.rows(), config.width};
  }

  /// The objective's entropy gradients for the attention of a layer.
  auto entropy_gradients([[maybe_unused]] BatchShape shape, [[maybe_unused]] int layer) const {
    if constexpr (PenalizesEntropies<Objective, Device>) {
      return EntropyGradients<Accumulator>{observation_.rows_of_layer(shape, layer).rows,
                                           d_entropies_ + layer * shape.rows() * config.heads};
    } else {
      return Unobserved{};
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
  int max_batch_;
  BatchShape max_shape_;
  MemoryPlan memory_;
  ParameterSet<Device> parameters_;
  Embedding<Device> embedding_;
  std::vector<Block<Device>> blocks_;
  std::unique_ptr<NormLayer<Device>> final_norm_;  // if any
  OutputHead<Device> head_;
  Objective objective_;
  Observation<Observer, PenalizesEntropies<Objective, Device>, Device> observation_;
  double penalty_ = 0;

  Buffer<Device> activations_;
  RoundedWeights<Device> rounded_weights_;
  Recording<Device, Pass> recording_;
  BlockScratch<Device> scratch_;
  Matrix<Scalar> normalized_;           // (B, T, C), after the final norm
  Matrix<Scalar> d_embedding_;          // (B, T, C), one of the gradient buffers
  std::int32_t* tokens_ = nullptr;      // (B, T)
  std::int32_t* targets_ = nullptr;     // (B, T)
  Accumulator* losses_ = nullptr;       // (B, T)
  Accumulator* d_entropies_ = nullptr;  // (L, B, H, T)
  std::vector<Accumulator> host_losses_;
  KeyValueCache cache_;  // has no slots unless the model is for generation
};

}  // namespace lnfree
