/// gpu_products SECONDS
///
/// Measures the gain from lnfree's choice among cuBLASLt's algorithms: the products of a pass of GPT-2 in
/// bf16 over 16,384 tokens, with each of cuBLASLt's first eight algorithms and with lnfree's choice
/// alternately, for at least SECONDS. Writes JSON: each product's calls in a pass, and their milliseconds
/// with the first algorithm, lnfree's and the best.
#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include <lnfree/device/profiled.hpp>
#include <lnfree/model.hpp>

#include "median.hpp"
#include "random_windows.hpp"

using namespace lnfree;

namespace {

constexpr int choices = cuda::Products::max_choices;
constexpr int windows = 128, fewest_rounds = 5;

/// The milliseconds of a product's calls in each pass, for each algorithm, and last for lnfree's choice.
struct Product {
  std::int64_t calls = 0;
  std::array<std::vector<double>, choices + 1> times;
};

nlohmann::ordered_json measure(double seconds) {
  Decoder<gpt2_small, Identity, ReLU, Profiled<Cuda>, NoObserver> model(windows);
  model.initialize(1);
  benchmarks::RandomWindows random({windows, gpt2_small.context}, gpt2_small.vocab_size);
  Profile& profile = model.device().profile;
  std::map<std::string, Product> products;
  const auto take = [&](int choice) {
    model.device().handles->products.take_choice(choice < choices ? std::optional(choice) : std::nullopt);
  };
  // Products are planned first, since planning takes time and power that must not count.
  for (int choice = 0; choice <= choices; ++choice) {
    take(choice);
    model.forward_backward(random.draw());
  }
  const auto now = std::chrono::steady_clock::now;
  const auto start = now();
  for (int round = 0; round < fewest_rounds || now() - start < std::chrono::duration<double>(seconds);
       ++round) {
    for (int choice = 0; choice <= choices; ++choice) {
      take(choice);
      profile.start();
      model.forward_backward(random.draw());
      for (const auto& [name, entry] : profile.entries()) {
        if (!name.starts_with("gemm ")) continue;
        products[name].calls = entry.calls;
        products[name].times[choice].push_back(1e3 * entry.seconds);
      }
    }
  }

  nlohmann::ordered_json result{{"gpu", device_name(model.device())}, {"products", nlohmann::json::array()}};
  double first_of_all = 0, ours_of_all = 0, best_of_all = 0;
  for (const auto& [name, product] : products) {
    std::array<double, choices + 1> medians;
    std::transform(product.times.begin(), product.times.end(), medians.begin(), benchmarks::median);
    const auto best = std::min_element(medians.begin(), medians.end() - 1);
    first_of_all += medians[0];
    ours_of_all += medians[choices];
    best_of_all += *best;
    result["products"].push_back({{"product", name},
                                  {"calls", product.calls},
                                  {"first_ms", medians[0]},
                                  {"ours_ms", medians[choices]},
                                  {"best_ms", *best},
                                  {"best_choice", best - medians.begin()}});
  }
  result["first_ms"] = first_of_all;
  result["ours_ms"] = ours_of_all;
  result["best_ms"] = best_of_all;
  return result;
}

}  // namespace

int main(int argc, char** argv) try {
  char* end = nullptr;
  const double seconds = argc == 2 ? std::strtod(argv[1], &end) : 0;
  if (argc != 2 || *end != '\0') throw Error("usage: gpu_products SECONDS");
  std::printf("%s\n", measure(seconds).dump(2).c_str());
} catch (const NoDevice& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 4;
} catch (const std::exception& error) {
  std::fprintf(stderr, "gpu_products: %s\n", error.what());
  return 1;
}
