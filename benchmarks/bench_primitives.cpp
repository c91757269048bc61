#include <omp.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include <benchmark/benchmark.h>

#include <lnfree/activation/gelu.hpp>
#include <lnfree/activation/relu.hpp>
#include <lnfree/core/memory.hpp>
#include <lnfree/core/random.hpp>
#include <lnfree/device/cpu/cpu.hpp>
#include <lnfree/device/primitives.hpp>
#include <lnfree/device/work.hpp>
#include <lnfree/nn/output_head.hpp>
#include <lnfree/norm/layer_norm.hpp>
#include <lnfree/optim/adamw.hpp>

#include "machine_peak.hpp"
#include "median.hpp"
#include "shapes.hpp"

// Each primitive of the Cpu device, on matrices as in a training step of each model.

using namespace lnfree;

namespace benchmarks {
namespace {

/// A matrix that owns its memory, filled with numbers from [-1, 1) or with one number.
class Owned {
 public:
  Owned(Cpu& device, Index rows, Index cols, std::uint64_t stream)
      : memory_(device, static_cast<std::size_t>(rows * cols) * sizeof(float)), view_(data(), rows, cols) {
    const Philox random(1, stream);
    for (Index i = 0; i < view_.size(); ++i) {
      data()[i] = static_cast<float>(random(static_cast<std::uint64_t>(i))[0]) * 0x1p-31f - 1.0f;
    }
  }
  static Owned filled(Cpu& device, Index rows, Index cols, float value) {
    Owned owned(device, rows, cols);
    std::fill_n(owned.data(), owned.view_.size(), value);
    return owned;
  }

  float* data() const { return static_cast<float*>(memory_.data()); }
  operator Matrix<float>() const { return view_; }
  operator Matrix<const float>() const { return view_; }
  Matrix<float> view() const { return view_; }

 private:
  Owned(Cpu& device, Index rows, Index cols)
      : memory_(device, static_cast<std::size_t>(rows * cols) * sizeof(float)), view_(data(), rows, cols) {}

  Buffer<Cpu> memory_;
  Matrix<float> view_;
};

/// Times `body`, as the median of its calls, and compares it with the machine's bound: the time of its
/// operations at the FMA peak, or of its bytes at the bandwidth of a triad over as many bytes (of reading, if
/// it only reads), whichever is longer. Small matrices are in cache, and so is the triad then.
template <class Body>
void measure(benchmark::State& state, const Shape& shape, Work work, const Body& body) {
  const int threads = shape.threads();
  omp_set_num_threads(threads);
  body();
  std::vector<double> seconds;
  for (auto _ : state) {
    const double start = omp_get_wtime();
    body();
    benchmark::ClobberMemory();
    seconds.push_back(omp_get_wtime() - start);
  }
  const double time = median(std::move(seconds));
  const auto size = static_cast<std::size_t>(std::min(work.touched(), 1.0 * beyond_caches));
  const double bandwidth = work.written == 0 ? measure_read_gbytes_per_second(threads, size)
                                             : measure_triad_gbytes_per_second(threads, size);
  const double arithmetic_seconds = work.operations * 1e-9 / machine_peak(threads).gflops;
  const double memory_seconds = work.moved() * 1e-9 / bandwidth;
  state.counters["gflops"] = work.operations * 1e-9 / time;
  state.counters["gbytes_per_second"] = work.moved() * 1e-9 / time;
  state.counters["fraction_of_peak"] = std::max(arithmetic_seconds, memory_seconds) / time;
  state.SetLabel(arithmetic_seconds > memory_seconds ? "compute-bound" : "memory-bound");
}

void add(const Shape& shape, const std::string& primitive,
         const std::function<void(benchmark::State&)>& run) {
  benchmark::RegisterBenchmark((primitive + "/" + shape.name).c_str(), run)
      ->UseRealTime()
      ->Unit(benchmark::kMicrosecond);
}

/// The three products of a weight (in, out): y = x W, d_W += x^T d_y, d_x = d_y W^T.
void add_products(const Shape& shape, const std::string& name, Index rows, Index in, Index out) {
  const auto add_product = [&](const char* kind, Work work, auto call) {
    add(shape, "gemm/" + name + "/" + kind, [=, &shape](benchmark::State& state) {
      Cpu device;
      const Owned x(device, rows, in, 1), weight(device, in, out, 2), y(device, rows, out, 3);
      measure(state, shape, work, [&] { call(device, x.view(), weight.view(), y.view()); });
    });
  };
  using M = Matrix<float>;
  add_product("forward", work::gemm<float>(rows, out, in, false),
              [](Cpu& device, M x, M weight, M y) { gemm(device, x, weight, y); });
  add_product("d_weight", work::gemm<float>(in, out, rows, true),
              [](Cpu& device, M x, M weight, M y) { gemm(device, transpose(x), y, accumulate(weight)); });
  add_product("d_input", work::gemm<float>(rows, in, out, false),
              [](Cpu& device, M x, M weight, M y) { gemm(device, y, transpose(weight), x); });
}

void add_gemm(const Shape& shape) {
  const DecoderConfig& c = shape.config;
  const Index rows = shape.tokens();
  add_products(shape, "c_attn", rows, c.width, 3 * c.width);
  add_products(shape, "attn_c_proj", rows, c.width, c.width);
  add_products(shape, "c_fc", rows, c.width, c.ffn_width);
  add_products(shape, "mlp_c_proj", rows, c.ffn_width, c.width);
}

/// The output head runs its products and the cross-entropy in chunks of rows.
void add_output_head(const Shape& shape) {
  add(shape, "output_head/forward_backward", [&shape](benchmark::State& state) {
    const DecoderConfig& c = shape.config;
    const Index rows = shape.tokens();
    Cpu device;
    ParameterSet<Cpu> parameters;
    auto& table = parameters.add("wte.weight", {c.vocab_size, c.width}, ParameterKind::embedding);
    OutputHead<Cpu> head(parameters, c, table);
    const BatchShape batch{shape.batch, c.context};
    Arena counted;
    head.plan(counted, batch);
    Buffer<Cpu> memory(device, counted.peak());
    Arena placed(memory.data());
    head.plan(placed, batch);
    parameters.allocate(device, true);
    const Owned x(device, rows, c.width, 1), d_x(device, rows, c.width, 2), losses(device, rows, 1, 3);
    const std::vector<std::int32_t> targets(static_cast<std::size_t>(rows), 1);
    Work work = work::gemm<float>(rows, c.vocab_size, c.width, false);
    work += work::cross_entropy_forward_backward<float>(rows * c.vocab_size);
    work += work::gemm<float>(c.vocab_size, c.width, rows, true);
    work += work::gemm<float>(rows, c.width, c.vocab_size, false);
    measure(state, shape, work, [&] {
      head.forward_backward(device, x.view(), d_x.view(), [&](Index first, Matrix<float> logits) {
        cross_entropy_forward_backward(device, logits, targets.data() + first, losses.data() + first, 1e-3);
      });
    });
  });
}

void add_rows(const Shape& shape) {
  const Index rows = shape.tokens(), width = shape.config.width;
  const Index size = rows * width;
  add(shape, "bias/forward", [=, &shape](benchmark::State& state) {
    Cpu device;
    const Owned y(device, rows, 3 * width, 1), bias(device, 1, 2 * width, 2);
    measure(state, shape, work::elementwise<float>(2 * size, 1, 1, true),
            [&] { bias_forward(device, y.view().columns(0, 2 * width), bias.data()); });
  });
  add(shape, "bias/backward", [=, &shape](benchmark::State& state) {
    Cpu device;
    const Owned d_y(device, rows, 3 * width, 1), d_bias(device, 1, 2 * width, 2);
    measure(state, shape, work::reduction<float>(2 * size, 1),
            [&] { bias_backward(device, d_y.view().columns(0, 2 * width), d_bias.data()); });
  });
  add(shape, "norm/forward", [=, &shape](benchmark::State& state) {
    Cpu device;
    const Owned x(device, rows, width, 1), gain(device, 1, width, 2), bias(device, 1, width, 3);
    const Owned y(device, rows, width, 4);
    std::vector<NormRow<float>> kept(static_cast<std::size_t>(rows));
    const NormPointers<const float, LayerNorm> parameters{{gain.data(), bias.data()}};
    // Sum; difference, square and sum; difference, two products, sum.
    measure(state, shape, work::elementwise<float>(size, 1, 8, false),
            [&] { norm_forward(device, LayerNorm{}, x, parameters, y.view(), kept.data()); });
  });
  // As in a block, the gradient is added to the residual stream's.
  add(shape, "norm/backward", [=, &shape](benchmark::State& state) {
    Cpu device;
    const Owned x(device, rows, width, 1), gain(device, 1, width, 2), d_y(device, rows, width, 3);
    const Owned d_x(device, rows, width, 4), d_gain(device, 1, width, 5), d_bias(device, 1, width, 6);
    const std::vector<NormRow<float>> kept(static_cast<std::size_t>(rows), norm_row<LayerNorm>(0.0f, 1.0f));
    const NormPointers<const float, LayerNorm> parameters{{gain.data(), d_bias.data()}};
    const NormPointers<float, LayerNorm> d_parameters{{d_gain.data(), d_bias.data()}};
    // Gain, value and three sums; gain, value and gradient; gradients of gain and bias.
    measure(state, shape, work::elementwise<float>(size, 3, 20, true), [&] {
      norm_backward(device, LayerNorm{}, x, parameters, kept.data(), d_y, accumulate(d_x.view()),
                    d_parameters);
    });
  });
  add(shape, "dropout", [=, &shape](benchmark::State& state) {
    Cpu device;
    const Owned x(device, rows, width, 1);
    measure(state, shape, work::dropout<float>(size), [&] { dropout(device, x, 0.1, Philox(1, 1)); });
  });
  const auto tokens = [=, vocab = shape.config.vocab_size] {
    std::vector<std::int32_t> tokens(static_cast<std::size_t>(rows));
    const Philox random(1, 1);
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      tokens[i] = static_cast<std::int32_t>(random(i)[0] % static_cast<std::uint32_t>(vocab));
    }
    return tokens;
  };
  const BatchShape batch{shape.batch, shape.config.context};
  add(shape, "embedding/forward", [=, &shape](benchmark::State& state) {
    Cpu device;
    const Owned table(device, shape.config.vocab_size, width, 1), positions(device, batch.length, width, 2);
    const Owned x(device, rows, width, 3);
    const auto input = tokens();
    measure(state, shape, work::embedding_forward<float>(size),
            [&] { embedding_forward(device, batch, input.data(), table, positions, x); });
  });
  add(shape, "embedding/backward", [=, &shape](benchmark::State& state) {
    Cpu device;
    const Owned d_table(device, shape.config.vocab_size, width, 1),
        d_positions(device, batch.length, width, 2);
    const Owned d_x(device, rows, width, 3);
    const auto input = tokens();
    measure(state, shape, work::embedding_backward<float>(size),
            [&] { embedding_backward(device, batch, input.data(), d_x, d_table, d_positions); });
  });
}

template <class Activation>
void add_activation(const Shape& shape, double value_operations, double derivative_operations) {
  const Index rows = shape.tokens(), width = shape.config.ffn_width;
  const Index size = rows * width;
  const std::string name = "activation/" + std::string(Activation::name);
  add(shape, name + "/forward", [=, &shape](benchmark::State& state) {
    Cpu device;
    const Owned x(device, rows, width, 1), y(device, rows, width, 2);
    measure(state, shape, work::elementwise<float>(size, 1, value_operations, false),
            [&] { activation_forward(device, Activation{}, x, nullptr, y); });
  });
  add(shape, name + "/backward", [=, &shape](benchmark::State& state) {
    Cpu device;
    // The derivative is 1 here, so that repeated multiplication does not change the gradient.
    const Owned saved = Owned::filled(device, rows, width, 8.0f), d_y(device, rows, width, 2);
    measure(state, shape, work::elementwise<float>(size, 2, derivative_operations + 1, true),
            [&] { activation_backward(device, Activation{}, saved, nullptr, d_y, nullptr); });
  });
}

void add_attention(const Shape& shape) {
  const DecoderConfig& c = shape.config;
  const AttentionShape heads{shape.batch, c.context, c.heads, c.head_dim()};
  const Index rows = heads.rows(), width = heads.width();
  struct Tensors {
    explicit Tensors(Cpu& device, AttentionShape heads)
        : qkv(device, heads.rows(), 3 * heads.width(), 1),
          d_qkv(device, heads.rows(), 3 * heads.width(), 2),
          y(device, heads.rows(), heads.width(), 3),
          log_sum(device, heads.rows(), heads.heads, 4),
          workspace(device, 1, attention_workspace(device, heads), 5) {}
    Owned qkv, d_qkv, y, log_sum, workspace;
  };
  const auto add_forward = [&](const char* observer, bool observed) {
    add(shape, std::string("attention/forward/") + observer, [=, &shape](benchmark::State& state) {
      Cpu device;
      const Tensors t(device, heads);
      const Owned entropies(device, rows, heads.heads, 6);
      measure(state, shape, work::attention_forward<float>(heads, observed), [&] {
        if (observed) {
          attention_forward(device, heads, t.qkv, t.y, t.log_sum.data(), t.workspace.data(),
                            RowEntropies<float>{entropies.data()});
        } else {
          attention_forward(device, heads, t.qkv, t.y, t.log_sum.data(), t.workspace.data(), Unobserved{});
        }
      });
    });
  };
  add_forward("none", false);
  add_forward("entropy", true);
  add(shape, "attention/backward", [=, &shape](benchmark::State& state) {
    Cpu device;
    const Tensors t(device, heads);
    attention_forward(device, heads, t.qkv, t.y, t.log_sum.data(), t.workspace.data(), Unobserved{});
    const Owned d_y(device, rows, width, 6);
    measure(state, shape, work::attention_backward<float>(heads), [&] {
      attention_backward(device, heads, t.qkv, t.y, t.log_sum.data(), d_y, t.d_qkv, t.workspace.data(),
                         Unobserved{});
    });
  });
}

/// On one chunk of rows of the output head.
void add_cross_entropy(const Shape& shape) {
  const Index vocab = shape.config.vocab_size;
  const Index rows = std::min(Index{shape.tokens()}, std::max(Index{256}, (Index{1} << 20) / vocab));
  const Index size = rows * vocab;
  add(shape, "cross_entropy/forward", [=, &shape](benchmark::State& state) {
    Cpu device;
    const Owned logits(device, rows, vocab, 1), losses(device, rows, 1, 2);
    const std::vector<std::int32_t> targets(static_cast<std::size_t>(rows), 1);
    measure(state, shape, work::cross_entropy_forward<float>(size),
            [&] { cross_entropy_forward(device, logits, targets.data(), losses.data()); });
  });
  add(shape, "cross_entropy/forward_backward", [=, &shape](benchmark::State& state) {
    Cpu device;
    const Owned logits(device, rows, vocab, 1), losses(device, rows, 1, 2);
    const std::vector<std::int32_t> targets(static_cast<std::size_t>(rows), 1);
    measure(state, shape, work::cross_entropy_forward_backward<float>(size),
            [&] { cross_entropy_forward_backward(device, logits, targets.data(), losses.data(), 1.0); });
  });
}

/// Over all weights of the model at once, as in a step.
void add_optimizer(const Shape& shape) {
  const DecoderConfig& c = shape.config;
  const Index width = c.width;
  const Index count = (Index{c.vocab_size} + c.position_rows()) * width +
                      c.layers * width * (4 * width + 2 * Index{c.ffn_width});
  add(shape, "optimizer/sum_of_squares", [=, &shape](benchmark::State& state) {
    Cpu device;
    const Owned gradient = Owned::filled(device, 1, count, 1e-3f);
    const float* const values = gradient.data();
    measure(state, shape, work::reduction<float>(count, 2),
            [&] { benchmark::DoNotOptimize(sum_of(device, count, Square{}, values)); });
  });
  add(shape, "optimizer/adamw", [=, &shape](benchmark::State& state) {
    Cpu device;
    const Owned weight = Owned::filled(device, 1, count, 0.02f),
                gradient = Owned::filled(device, 1, count, 1e-3f);
    const Owned m = Owned::filled(device, 1, count, 1e-3f), v = Owned::filled(device, 1, count, 1e-6f);
    // The moments must not decay: with the zeroed gradient they would shrink to unrealistic numbers.
    AdamWRule<float> rule({}, /*learning_rate=*/1e-6, /*weight_decay=*/0.1, /*t=*/1, /*clip=*/1);
    rule.beta1 = rule.beta2 = 1;
    rule.one_minus_beta1 = rule.one_minus_beta2 = 0;
    Work work = work::elements<float, float, float, float>(count);
    work.operations = AdamWRule<float>::operations * static_cast<double>(count);
    measure(state, shape, work, [&] {
      for_each_element(device, count, ApplyRule<AdamWRule<float>>{rule}, weight.data(), gradient.data(),
                       m.data(), v.data());
    });
  });
}

void add_all(const Shape& shape) {
  add_gemm(shape);
  add_output_head(shape);
  add_rows(shape);
  add_activation<GELU>(shape, work::erf_operations + 4, work::erf_operations + work::exp_operations + 8);
  add_activation<ReLU>(shape, 0, 0);
  add_attention(shape);
  add_cross_entropy(shape);
  add_optimizer(shape);
}

[[maybe_unused]] const bool registered = [] {
  add_all(gpt2_shape);
  add_all(small_shape);
  add_all(demo_shape);
  return true;
}();

}  // namespace
}  // namespace benchmarks
