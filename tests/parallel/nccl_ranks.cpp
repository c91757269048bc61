/// Tests the members of Nccl between processes started by mpirun, on nccl_by_mpi/ in place of GPUs and NCCL;
/// tests/gpu/ranks.cu does so on GPUs.
///
///   nccl_ranks mpi|environment
///
/// The ranks find each other through Mpi, or through the environment.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <string>
#include <vector>

#include <lnfree/parallel/mpi.hpp>
#include <lnfree/parallel/nccl.hpp>

using namespace lnfree;

namespace {

void require(bool holds, const std::string& what) {
  if (!holds) throw Error("wrong: " + what);
}

bool are_all(const std::vector<std::uint8_t>& bytes, int value) {
  return std::all_of(bytes.begin(), bytes.end(), [&](std::uint8_t byte) { return byte == value; });
}

void check(const Nccl& ranks) {
  // More than the staging memory holds, and of another size in every other rank. A single one exchanges with
  // itself.
  const auto size_of = [](int rank) {
    return (std::size_t{2} << 20) + 3 + static_cast<std::size_t>(rank % 2);
  };
  const int partner = ranks.size() == 1 ? 0 : ranks.rank() ^ 1, last = ranks.size() - 1;
  const std::vector<std::uint8_t> sent(size_of(ranks.rank()), static_cast<std::uint8_t>(10 + ranks.rank()));
  std::vector<std::uint8_t> received(size_of(partner));
  ranks.exchange(partner, sent.data(), sent.size(), received.data(), received.size());
  require(are_all(received, 10 + partner), "exchange");
  require(ranks.bytes_sent() == sent.size(), "bytes_sent");

  std::fill(received.begin(), received.end(), std::uint8_t{0});
  ranks.exchange_on_device(nullptr, partner, sent.data(), sent.size(), received.data(), received.size());
  ranks.finish(nullptr);
  require(are_all(received, 10 + partner), "exchange_on_device");

  std::vector<double> own(200000);
  const auto number = [](int rank, std::size_t i) { return rank + 1e-6 * static_cast<double>(i); };
  for (std::size_t i = 0; i < own.size(); ++i) own[i] = number(ranks.rank(), i);
  const std::vector<double> all = ranks.gather(own);
  require(all.size() == own.size() * static_cast<std::size_t>(ranks.size()), "the size of gather");
  for (int rank = 0; rank < ranks.size(); ++rank) {
    for (std::size_t i = 0; i < own.size(); ++i)
      require(all[static_cast<std::size_t>(rank) * own.size() + i] == number(rank, i), "gather");
  }

  std::vector<std::uint8_t> bytes((3 << 20) + 5, static_cast<std::uint8_t>(ranks.rank() == last ? 77 : 0));
  ranks.broadcast(bytes.data(), bytes.size(), last);
  require(are_all(bytes, 77), "broadcast");

  ranks.barrier();
  require(ranks.local_size() == ranks.size(), "local_size");
  require(chosen_device == ranks.local_rank(), "the GPU");
  require(on_any_rank(ranks, ranks.rank() == last), "on_any_rank");
  try {
    on_all_ranks(ranks, [&] { require(ranks.rank() != last, "on purpose"); });
    require(false, "on_all_ranks");
  } catch (const SharedError&) {  // on all of them
  }
}

}  // namespace

int main(int argc, char** argv) {
  const Mpi mpi;
  try {
    if (argc > 1 && std::string(argv[1]) == "mpi") {
      check(Nccl::through(mpi, 20));
    } else {
      const Nccl ranks = Nccl::from_environment(20);
      check(ranks);
      const char* const rendezvous = std::getenv("LNFREE_RENDEZVOUS");
      require(rendezvous == nullptr || ranks.rank() != 0 || !std::filesystem::exists(rendezvous),
              "the file is left");
    }
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "nccl_ranks: %s\n", error.what());
    std::fflush(stderr);
    mpi.abort(1);
  }
}
