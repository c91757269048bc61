#include <cstddef>
#include <map>
#include <memory>
#include <random>
#include <tuple>
#include <type_traits>

#include <boost/test/unit_test.hpp>

#ifdef LNFREE_TEST_CUDA
#include <lnfree/device/cuda/cuda.hpp>
#endif
#include <lnfree/model.hpp>

#include "support/layouts.hpp"
#include "support/reference.hpp"
#include "support/seed.hpp"

using namespace lnfree;

namespace {

/// The oracle, with counted memory.
template <class S>
struct Counted : Reference<S> {
  std::shared_ptr<std::map<void*, std::size_t>> taken = std::make_shared<std::map<void*, std::size_t>>();
};

template <class S>
void* allocate(Counted<S>& device, std::size_t bytes) {
  void* const memory = allocate(static_cast<Reference<S>&>(device), bytes);
  (*device.taken)[memory] = bytes;
  return memory;
}

template <class S>
void deallocate(Counted<S>& device, void* memory) {
  device.taken->erase(memory);
  deallocate(static_cast<Reference<S>&>(device), memory);
}

template <class S>
std::size_t free_bytes(Counted<S>& device) {
  std::size_t free = std::size_t{1} << 30;
  for (const auto& [memory, bytes] : *device.taken) free -= bytes;
  return free;
}

#ifdef LNFREE_TEST_CUDA
using PlannedDevices = std::tuple<Cuda, CudaFp32>;
#else
using PlannedDevices = std::tuple<Counted<float>, Counted<double>>;
#endif

/// Everything on the device besides a model that a plan must include.
using Watching = Observers<EntropyObserver, OutlierObserver>;

}  // namespace

BOOST_AUTO_TEST_SUITE(memory_plan)

BOOST_AUTO_TEST_CASE_TEMPLATE(a_plan_is_what_is_taken, D, PlannedDevices) {
  LNFREE_LOG_SEED();
  std::mt19937_64 random(test::seed());
  const auto check = [&]<class Model>(std::type_identity<Model>) {
    for (const Purpose purpose : {Purpose::training, Purpose::evaluation}) {
      const bool trains = purpose == Purpose::training;
      D device;
      const int batch = 1 + static_cast<int>(random() % 7);
      const std::size_t before = free_bytes(device);
      MemoryPlan plan = Model::plan_memory(batch, purpose, device);
      plan.optimizer = AdamW<Model>::bytes(plan);
      BOOST_TEST(free_bytes(device) == before);
      {
        Model model(batch, purpose, device);
        BOOST_TEST(before - free_bytes(device) == plan.total() - plan.optimizer);
        BOOST_TEST(model.memory().total() == plan.total() - plan.optimizer);
        if (trains) {
          const AdamW<Model> optimizer(model);
          BOOST_TEST(before - free_bytes(device) == plan.total());
        } else {
          BOOST_CHECK_THROW(AdamW<Model>{model}, Error);
        }
      }
      BOOST_TEST(free_bytes(device) == before);
      BOOST_TEST((plan.gradients > 0) == trains);
      BOOST_TEST(plan.optimizer == 2 * plan.gradients);
      BOOST_TEST(Model::plan_memory(batch + 1, purpose, device).total() > plan.total() - plan.optimizer);
    }
  };
  check(std::type_identity<Decoder<tiny, LayerNorm, GELU, D, NoObserver>>{});
  check(std::type_identity<Decoder<tiny, Identity, ReLU, D, EntropyObserver>>{});
  check(std::type_identity<Decoder<test::parallel_rotary, DynamicTanh, LeakyLearnable<Scope::global>, D,
                                   Watching, Parallel, EntropyGuided>>{});
  check(std::type_identity<Decoder<tiny, LayerNorm, GELU, D, EntropyObserver, Sandwich>>{});
}

BOOST_AUTO_TEST_CASE_TEMPLATE(no_batch_has_no_plan, D, PlannedDevices) {
  using Model = Decoder<tiny, LayerNorm, GELU, D, NoObserver>;
  BOOST_CHECK_THROW(Model::plan_memory(0), Error);
}

BOOST_AUTO_TEST_SUITE_END()
