/// What zeros after a ReLU save in text generation. For each checkpoint: the share of hidden units that are 0
/// in each layer on held-out text, and tokens per second with and without reading the rows of the second
/// matrices that belong to zeros. The matrices of a small model fit in cache, so the same is measured for a
/// model of GPT-2's size with the same shares of zeros.
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <lnfree/checkpoint/open_model.hpp>
#include <lnfree/core/atomic_file.hpp>
#include <lnfree/core/random.hpp>
#include <lnfree/data/shard_set.hpp>
#include <lnfree/data/windows.hpp>
#include <lnfree/model.hpp>
#include <lnfree/observer/outlier_observer.hpp>
#include <lnfree/train/evaluate.hpp>

#include "../examples/command_line.hpp"
#include "../examples/configurations.hpp"
#include "median.hpp"

using namespace lnfree;

namespace {

struct Options {
  std::vector<std::filesystem::path> checkpoints, data;
  std::filesystem::path json;
  std::int64_t vocab_size = 0;
  int texts = 16, threads = 1;
  bool skip_gpt2 = false;
};

/// A number too small to change a sum, but not zero, so that no row is skipped.
constexpr float no_zero = 1e-30f;

/// The activation A without zeros: every row of the next matrix is read, and the sums are the same.
template <class A>
struct WithoutZeros {
  static constexpr std::string_view name = A::name;
  static constexpr Saved saved = A::saved;

  template <class T>
  LNFREE_HOST_DEVICE static T value(T x) {
    const T y = A::template value<T>(x);
    return y == T(0) ? T(no_zero) : y;
  }
  template <class T>
  LNFREE_HOST_DEVICE static T derivative(T saved_number) {
    return A::template derivative<T>(saved_number);
  }
};

struct DensePolicies : configurations::Policies {
  using Activations =
      PolicyList<GELU, GELUTanh, WithoutZeros<ReLU>, WithoutZeros<SquaredReLU>, SiLU, LeakyReLU<>,
                 LeakyLearnable<Scope::per_layer>, LeakyLearnable<Scope::global>>;
};

/// Hidden units that are positive, except for a random share of them that is `zero`, drawn anew for each
/// token.
class DrawnZeros final : public ActivationLayer<Cpu> {
 public:
  DrawnZeros(double share, float zero, std::uint64_t layer)
      : below_(static_cast<std::uint32_t>(std::min(share, 1.0) * 4294967295.0)),
        zero_(zero),
        random_(1, layer) {}

  bool saves_input() const override { return false; }
  void forward(Cpu& device, Linear<Cpu>& linear, Matrix<const float> x, Matrix<float> before,
               Matrix<float> y) override {
    linear.forward(device, x, before);
    for (Index i = 0; i < y.rows; ++i, ++drawn_) {
      for (Index k = 0; k < y.cols; k += 4) {
        const auto draws = random_(static_cast<std::uint64_t>(drawn_ * y.cols + k));
        for (Index j = k; j < std::min(k + 4, y.cols); ++j) {
          const bool is_zero = draws[static_cast<std::size_t>(j - k)] < below_;
          y.row(i)[j] = is_zero ? zero_ : std::abs(before.row(i)[j]) + 1e-3f;
        }
      }
    }
  }
  void backward(Cpu&, Matrix<const float>, Matrix<float>) override {
    throw Error("a model for generation has no backward pass");
  }

 private:
  std::uint32_t below_;
  float zero_;
  Philox random_;
  Index drawn_ = 0;
};

/// A model of GPT-2's size with these shares of zeros by layer, stretched to its number of layers.
std::unique_ptr<DynamicDecoder<Cpu>> gpt2_with_zeros(const std::vector<double>& shares, float zero) {
  auto parts = parts_of<Identity, Identity, ReLU, PreNorm, Cpu>();
  parts.activation = [&shares, zero](ParameterSet<Cpu>&, const std::string&, int layer) {
    const std::size_t like = static_cast<std::size_t>(layer) * shares.size() / gpt2_small.layers;
    return std::make_unique<DrawnZeros>(shares[like], zero, static_cast<std::uint64_t>(layer));
  };
  auto model = std::make_unique<DynamicDecoder<Cpu>>(gpt2_small, parts, 1, Purpose::generation);
  model->initialize(1);
  return model;
}

/// The result of decoding the same texts with two models, alternating token by token.
struct Decoding {
  double dense = 0, sparse = 0;  ///< Tokens per second, medians over tokens.
  double speedup = 0;            ///< Median over tokens of the ratio of their times.
  double difference = 0;         ///< The largest difference between their logits.
};

template <class Dense, class Sparse>
Decoding decode(Dense& dense, Sparse& sparse, const std::vector<std::vector<std::int32_t>>& texts) {
  Decoding result;
  std::vector<double> of_dense, of_sparse, ratios;
  for (const auto& text : texts) {
    // The models alternate token by token, so that other load on the machine affects both.
    double seconds[2];
    std::vector<double> logits[2];
    for (std::size_t length = 1; length <= text.size(); ++length) {
      const std::span<const std::int32_t> read(text.data(), length);
      const auto run = [&](int which, auto& model) {
        const double begin = omp_get_wtime();
        logits[which] = model.next_logits(read);
        seconds[which] = omp_get_wtime() - begin;
      };
      run(0, dense);
      run(1, sparse);
      for (std::size_t v = 0; v < logits[0].size(); ++v)
        result.difference = std::max(result.difference, std::abs(logits[0][v] - logits[1][v]));
      if (length == 1) continue;
      of_dense.push_back(1 / seconds[0]);
      of_sparse.push_back(1 / seconds[1]);
      ratios.push_back(seconds[0] / seconds[1]);
    }
  }
  result.dense = benchmarks::median(of_dense);
  result.sparse = benchmarks::median(of_sparse);
  result.speedup = benchmarks::median(ratios);
  return result;
}

Json to_json(const Decoding& decoding) {
  return {{"dense_tokens_per_second", decoding.dense},
          {"sparse_tokens_per_second", decoding.sparse},
          {"speedup", decoding.speedup},
          {"largest_difference_of_logits", decoding.difference}};
}

void print(const char* model, const Decoding& decoding) {
  std::printf(
      "  %-16s %9.1f tokens/s with all rows, %9.1f without those that meet a zero: %.3f times; logits differ "
      "by %.2g\n",
      model, decoding.dense, decoding.sparse, decoding.speedup, decoding.difference);
}

Json measure(const std::filesystem::path& checkpoint, const Options& options) {
  std::vector<double> zeros;
  double loss = 0;
  std::vector<std::vector<std::int32_t>> texts;
  {
    const auto model =
        open_model<Cpu, OutlierObserver, configurations::Policies>(checkpoint, {.max_batch = 8});
    const Windows windows(ShardSet::open(options.data, options.vocab_size), model->config.context,
                          model->config.vocab_size);
    loss = evaluate(*model, windows).eval_loss;
    zeros = model->observer().zeros();
    const std::int64_t count = std::min<std::int64_t>(options.texts, windows.count());
    for (std::int64_t i = 0; i < count; ++i) {
      texts.emplace_back(static_cast<std::size_t>(windows.context()));
      windows.window(windows.count() * i / count, texts.back().data());
    }
  }
  std::printf("%s\n  loss %.4f; zeros by layer:", checkpoint.c_str(), loss);
  for (const double share : zeros) std::printf(" %.3f", share);
  std::printf("\n");

  const OpenOptions opened{.purpose = Purpose::generation};
  const auto dense = open_model<Cpu, NoObserver, DensePolicies>(checkpoint, opened);
  const auto sparse = open_model<Cpu, NoObserver, configurations::Policies>(checkpoint, opened);
  const Decoding own = decode(*dense, *sparse, texts);
  print("itself", own);
  Json result = {
      {"checkpoint", checkpoint.string()}, {"eval_loss", loss}, {"zeros", zeros}, {"decoding", to_json(own)}};
  if (!options.skip_gpt2) {
    // The tokens do not matter, since the zeros are drawn at random.
    std::vector<std::vector<std::int32_t>> drawn(std::size_t{3}, std::vector<std::int32_t>(33));
    for (auto& text : drawn)
      for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<std::int32_t>(i * 977 % 50000);
    const Decoding large = decode(*gpt2_with_zeros(zeros, no_zero), *gpt2_with_zeros(zeros, 0.0f), drawn);
    print("in GPT-2's size", large);
    result["decoding_gpt2"] = to_json(large);
  }
  std::fflush(stdout);
  return result;
}

}  // namespace

int main(int argc, char** argv) {
  CommandLine app("Measures what zeros behind a ReLU save when text is generated.", argv);
  Options options;
  app.add_value("--checkpoint", options.checkpoints, "DIR", "Folders checkpoint/ of runs")->required();
  app.add_value("--data", options.data, "FILE", "Held-out token shards, or patterns of their names")
      ->required();
  app.add_count("--vocab-size", options.vocab_size, std::int64_t{0},
                "Vocabulary of shards without a header; 0: a file beside them says it");
  app.add_count("--texts", options.texts, 1, "Windows of the data that are generated token by token");
  app.add_count("--threads", options.threads, 1, "Threads that compute", 1024);
  app.add_flag("--skip-gpt2", options.skip_gpt2, "Do not measure the model of GPT-2's size");
  app.add_value("--json", options.json, "FILE", "Also write the results to this file");
  if (const auto status = app.read(argc, argv)) return *status;
  try {
    omp_set_num_threads(options.threads);
    Json results = Json::array();
    for (const auto& checkpoint : options.checkpoints)
      results.push_back(measure(present_checkpoint(checkpoint), options));
    require_standard_output();
    if (!options.json.empty())
      write_file(options.json, Json{{"threads", options.threads}, {"checkpoints", results}}.dump(2) + "\n");
  } catch (const std::exception& error) {
    return complain("bench_zeros", error.what());
  }
}
