#include <omp.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <tuple>

#include <boost/test/unit_test.hpp>

#include <lnfree/device/profiled.hpp>
#include <lnfree/model.hpp>

#include "support/random_batch.hpp"
#include "support/reference.hpp"

// All heap allocations pass here: the C library's allocation functions, which operator new also uses.
namespace {

std::atomic<long> allocations{0};

}  // namespace

extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);
void __libc_free(void*);

void* malloc(std::size_t bytes) {
  ++allocations;
  return __libc_malloc(bytes);
}
void* calloc(std::size_t number, std::size_t bytes) {
  ++allocations;
  return __libc_calloc(number, bytes);
}
void* realloc(void* memory, std::size_t bytes) {
  ++allocations;
  return __libc_realloc(memory, bytes);
}
void* aligned_alloc(std::size_t alignment, std::size_t bytes) {
  ++allocations;
  return __libc_memalign(alignment, bytes);
}
int posix_memalign(void** memory, std::size_t alignment, std::size_t bytes) {
  ++allocations;
  *memory = __libc_memalign(alignment, bytes);
  return *memory == nullptr ? ENOMEM : 0;
}
void free(void* memory) {
  __libc_free(memory);
}
}

using namespace lnfree;

constexpr DecoderConfig shape{
    .layers = 2, .heads = 4, .width = 64, .ffn_width = 256, .context = 64, .vocab_size = 300};
template <class A, class Device, class L = PreNorm>
using Model =
    Decoder<shape, LayerNorm, A, Device, Observers<EntropyObserver, OutlierObserver>, L, EntropyGuided>;
/// The last one has a profile, as in the trainers.
using Models =
    std::tuple<Model<GELU, Cpu>, Model<LeakyLearnable<Scope::global>, Cpu>, Model<GELU, EigenCpu<float>>,
               Model<LeakyLearnable<Scope::global>, EigenCpu<double>>, Model<GELU, Profiled<Cpu>, PostNorm>>;

BOOST_AUTO_TEST_SUITE(allocation_counts)

BOOST_AUTO_TEST_CASE(allocations_are_seen) {
  const long before = allocations;
  int* volatile object = new int(1);
  void* volatile block = std::aligned_alloc(64, 64);
  const long during = allocations - before;
  delete object;
  std::free(block);
  BOOST_TEST(during == 2);
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_step_allocates_nothing, M, Models) {
  for (const int threads : {1, 2}) {
    const int threads_before = omp_get_max_threads();
    omp_set_num_threads(threads);
    M model(4);
    model.initialize(1);
    AdamW optimizer(model);
    const test::RandomBatch random({4, 64}, shape.vocab_size, 1);
    const WarmupLinearSchedule schedule{.steps = 10};
    const auto step = [&](std::uint64_t s) {
      model.forward_backward(random.batch(), {.gradient_scale = 0.5, .dropout = {0.1, 1, 2 * s}});
      model.forward_backward(random.batch(), {.gradient_scale = 0.5, .dropout = {0.1, 1, 2 * s + 1}});
      optimizer.step(schedule(static_cast<std::int64_t>(s)));
      return model.loss(random.batch());
    };
    step(0);  // OpenMP starts its threads, each of which allocates the memory that it keeps
    const long before = allocations;
    for (std::uint64_t s = 1; s < 4; ++s) step(s);
    const long during = allocations - before;
    BOOST_TEST(during == 0, during << " allocations in three steps on " << threads << " threads");
    omp_set_num_threads(threads_before);
  }
}

BOOST_AUTO_TEST_SUITE_END()
