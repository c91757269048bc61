#include <lnfree/observer/observers.hpp>

#include <cstdint>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <lnfree/model.hpp>

#include "support/random_batch.hpp"
#include "support/seed.hpp"

using namespace lnfree;
using namespace lnfree::test;

namespace {

/// Counts its calls.
template <bool Entropy, bool Stream>
struct Counts {
  static constexpr bool observes_entropy = Entropy;
  static constexpr bool observes_stream = Stream;
  Counts(int, int) {}
  void reset() { passes = layers = 0; }
  template <class T>
  void record(BatchShape, const T*, const std::int32_t*) {
    ++passes;
  }
  template <class T>
  void record_layer(int, Index, const std::vector<T>&, Index, Index) {
    ++layers;
  }
  int passes = 0, layers = 0;
};

}  // namespace

BOOST_AUTO_TEST_SUITE(observers)

BOOST_AUTO_TEST_CASE(each_records_what_it_observes) {
  using Both = Counts<true, true>;
  using OfEntropy = Counts<true, false>;
  using OfStream = Counts<false, true>;
  using All = Observers<EntropyObserver, OutlierObserver, Both, OfEntropy, OfStream>;
  Decoder<tiny, LayerNorm, GELU, Cpu, All> model(2);
  Decoder<tiny, LayerNorm, GELU, Cpu, EntropyObserver> alone(2);
  model.initialize(3);
  alone.initialize(3);
  LNFREE_LOG_SEED();
  const RandomBatch random({2, tiny.context}, tiny.vocab_size, seed());
  for (int pass = 0; pass < 3; ++pass) {
    model.loss(random.batch());
    alone.loss(random.batch());
  }
  const All& seen = model.observer();
  const auto check = [&](const auto& part, int passes, int layers) {
    BOOST_TEST(part.passes == passes);
    BOOST_TEST(part.layers == layers);
  };
  check(static_cast<const Both&>(seen), 3, 3 * tiny.layers);
  check(static_cast<const OfEntropy&>(seen), 3, 0);
  check(static_cast<const OfStream&>(seen), 0, 3 * tiny.layers);
  BOOST_TEST((seen.head_entropy() == alone.observer().head_entropy()));
  BOOST_TEST(seen.rms().front() > 0);
  model.observer().reset();
  check(static_cast<const Both&>(seen), 0, 0);
}

// A part that is off records nothing, and the others continue.
BOOST_AUTO_TEST_CASE(a_part_can_be_switched_off) {
  using First = Counts<true, true>;
  using Second = Counts<true, false>;
  Decoder<tiny, Identity, ReLU, Cpu, Observers<First, Second>> model(1);
  model.initialize(3);
  LNFREE_LOG_SEED();
  const RandomBatch random({1, tiny.context}, tiny.vocab_size, seed());
  auto& seen = model.observer();
  const auto parts = [&] {
    int count = 0;
    seen.for_each_part([&](const auto&) { ++count; });
    return count;
  };
  BOOST_TEST(parts() == 2);
  for (const bool on : {false, true}) {
    seen.enable<First>(on);
    BOOST_TEST(seen.is_enabled<First>() == on);
    BOOST_TEST(seen.is_enabled<Second>());
    BOOST_TEST(parts() == 1 + on);
    seen.reset();
    model.loss(random.batch());
    BOOST_TEST(static_cast<const First&>(seen).passes == on);
    BOOST_TEST(static_cast<const First&>(seen).layers == on * tiny.layers);
    BOOST_TEST(static_cast<const Second&>(seen).passes == 1);
  }
}

BOOST_AUTO_TEST_SUITE_END()
