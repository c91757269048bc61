/// Tests processes with one GPU each: the members of Nccl, sums over ranks, and training to the same bits as
/// in a single process. Without an argument the program is one of the processes (RANK, WORLD_SIZE,
/// LOCAL_RANK, LNFREE_RENDEZVOUS); with a number it starts that many.
///
///   gpu_ranks [RANKS]
///
/// Exits with 0, 1 after a failure, or 4 without a GPU.
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include <lnfree/device/cuda/cuda.hpp>
#include <lnfree/model.hpp>
#include <lnfree/optim/adamw.hpp>
#include <lnfree/parallel/data_parallel.hpp>
#include <lnfree/parallel/nccl.hpp>

#include "support/random_batch.hpp"

using namespace lnfree;

namespace {

int failures = 0;

void expect(bool holds, const Nccl& ranks, const char* what) {
  if (!holds) ++failures;
  if (!holds || ranks.rank() == 0)
    std::printf("rank %d of %d: %s: %s\n", ranks.rank(), ranks.size(), what, holds ? "ok" : "FAILED");
  std::fflush(stdout);
}

/// A single process that sums like several.
struct Single : SingleProcess {
  static constexpr int max_leaves = Nccl::max_leaves;
};

void check_members(const Nccl& ranks) {
  // A single rank exchanges with itself.
  const int partner = ranks.size() == 1 ? 0 : ranks.rank() ^ 1;
  const std::vector<std::uint8_t> sent((2 << 20) + 3, static_cast<std::uint8_t>(10 + ranks.rank()));
  std::vector<std::uint8_t> received(sent.size());
  const std::uint64_t before = ranks.bytes_sent();
  ranks.exchange(partner, sent.data(), sent.size(), received.data(), received.size());
  expect(std::count(received.begin(), received.end(), 10 + partner) ==
             static_cast<std::ptrdiff_t>(received.size()),
         ranks, "exchange");
  expect(ranks.bytes_sent() - before == sent.size(), ranks, "bytes_sent");

  const std::vector<double> own{1.0 + ranks.rank(), 0.5};
  const std::vector<double> all = ranks.gather(own);
  bool right = all.size() == 2 * static_cast<std::size_t>(ranks.size());
  for (int r = 0; right && r < ranks.size(); ++r)
    right =
        all[2 * static_cast<std::size_t>(r)] == 1.0 + r && all[2 * static_cast<std::size_t>(r) + 1] == 0.5;
  expect(right, ranks, "gather");

  const int last = ranks.size() - 1;
  std::vector<std::uint8_t> bytes((3 << 20) + 5, static_cast<std::uint8_t>(ranks.rank() == last ? 77 : 0));
  ranks.broadcast(bytes.data(), bytes.size(), last);
  expect(std::count(bytes.begin(), bytes.end(), 77) == static_cast<std::ptrdiff_t>(bytes.size()), ranks,
         "broadcast");

  Cuda device;
  Buffer<Cuda> from(device, sent.size()), to(device, sent.size());
  copy_to_device(device, from.data(), sent.data(), sent.size());
  ranks.exchange_on_device(device.stream().get(), partner, from.data(), sent.size(), to.data(), sent.size());
  ranks.finish(device.stream().get());
  std::fill(received.begin(), received.end(), std::uint8_t{0});
  copy_to_host(device, received.data(), to.data(), received.size());
  expect(std::count(received.begin(), received.end(), 10 + partner) ==
             static_cast<std::ptrdiff_t>(received.size()),
         ranks, "exchange on the device");
  ranks.barrier();
}

/// What rank `rank` adds at element i: numbers whose sum depends on the order.
float addend(int rank, Index i) {
  return static_cast<float>((rank * 7919 + i * 104729) % 1000003) * 1e-3f;
}

/// The sum over the ranks [first, first + count) by the tree.
float tree_sum(int first, int count, Index i) {
  if (count == 1) return addend(first, i);
  return tree_sum(first, count / 2, i) + tree_sum(first + count / 2, count / 2, i);
}

template <class Model>
void check_sums(const Nccl& ranks, Model& model) {
  auto& device = model.device();
  auto& parameters = model.parameters();
  const Pieces pieces(parameters, Nccl::max_leaves, false);
  const auto size = static_cast<std::size_t>(parameters.size());
  std::vector<float> numbers(size);
  for (std::size_t i = 0; i < size; ++i) numbers[i] = addend(ranks.rank(), static_cast<Index>(i));
  copy_to_device(device, parameters.gradients(), numbers.data(), size * sizeof(float));

  Exchange<typename Model::Device, Nccl> exchange(device, ranks);
  const auto is_sum = [&](Index begin, Index end) {
    copy_to_host(device, numbers.data(), parameters.gradients(), size * sizeof(float));
    for (Index i = begin; i < end; ++i)
      if (numbers[static_cast<std::size_t>(i)] != tree_sum(0, ranks.size(), i)) return false;
    return true;
  };
  exchange.reduce_scatter(parameters.gradients(), pieces);
  const int share = Pieces::share_of(ranks.rank(), ranks.size());
  expect(is_sum(pieces.begin(share, ranks.size()), pieces.begin(share + 1, ranks.size())), ranks,
         "reduce-scatter");
  exchange.all_gather(parameters.gradients(), pieces);
  expect(is_sum(0, parameters.size()), ranks, "all-gather: with it an all-reduce");
  parameters.zero_gradients(device);
}

constexpr int passes = 8;

/// The bits of a model's weights after two steps, and losses and norms.
template <class Model, Communicator C>
std::vector<double> trained(const C& ranks, bool zero) {
  const test::RandomBatch random({2, Model::config.context}, Model::config.vocab_size, 3);
  Model model(2);
  model.initialize(5);
  DataParallel<Model, C> parallel(model, ranks, passes, false);
  AdamW<Model> optimizer(model, {}, parallel.share(zero));
  std::vector<double> result;
  for (std::uint64_t step = 0; step < 2; ++step) {
    const auto made = parallel.gradients(false, zero, [&](std::int64_t pass) {
      const Dropout dropout{0.1, 7, step * passes + static_cast<std::uint64_t>(pass)};
      return model.forward_backward(random.batch(), {.gradient_scale = 1.0 / passes, .dropout = dropout});
    });
    result.insert(result.end(), made.losses.begin(), made.losses.end());
    result.push_back(optimizer.step(1e-3));
    if (zero) parallel.complete_weights();
  }
  for (const auto& parameter : model.parameters().all()) {
    for (const auto value : model.parameters().read(model.device(), parameter, model.parameters().masters()))
      result.push_back(static_cast<double>(value));
  }
  return result;
}

int run() {
  const Nccl ranks = Nccl::from_environment(60);
  check_members(ranks);
  using Model = Decoder<tiny, LayerNorm, GELU, Cuda>;
  {
    Model model(2);
    check_sums(ranks, model);
  }
  const std::vector<double> alone = trained<Model>(Single{}, false);
  expect(alone == trained<Model>(Single{}, false), ranks, "a single process repeats to the bit");
  expect(alone == trained<Model>(ranks, false), ranks, "two steps of training, as a single process");
  if (ranks.size() > 1)
    expect(alone == trained<Model>(ranks, true), ranks, "two steps with the optimizer's state divided");
  return ranks.gather(std::vector<double>{static_cast<double>(failures)}) ==
                 std::vector<double>(static_cast<std::size_t>(ranks.size()))
             ? 0
             : 1;
}

/// Starts this program as several ranks and waits for them.
int start(char** argv, int count) {
  const std::string rendezvous =
      std::filesystem::temp_directory_path() / ("lnfree-ranks-" + std::to_string(::getpid()));
  ::setenv("LNFREE_RENDEZVOUS", rendezvous.c_str(), 1);
  ::setenv("WORLD_SIZE", std::to_string(count).c_str(), 1);
  std::vector<pid_t> processes;
  for (int rank = 0; rank < count; ++rank) {
    ::setenv("RANK", std::to_string(rank).c_str(), 1);
    ::setenv("LOCAL_RANK", std::to_string(rank).c_str(), 1);
    char* arguments[] = {argv[0], nullptr};
    pid_t process = 0;
    if (::posix_spawn(&process, "/proc/self/exe", nullptr, nullptr, arguments, environ) != 0) return 1;
    processes.push_back(process);
  }
  int worst = 0;
  for (const pid_t process : processes) {
    int status = 0;
    ::waitpid(process, &status, 0);
    worst = std::max(worst, WIFEXITED(status) ? WEXITSTATUS(status) : 1);
  }
  return worst;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1) return start(argv, std::max(1, std::atoi(argv[1])));
  try {
    return run();
  } catch (const NoDevice& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 4;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
