#include <lnfree/observer/outlier_observer.hpp>

#include <cmath>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <lnfree/model.hpp>

#include "support/random_batch.hpp"
#include "support/seed.hpp"

using namespace lnfree;

BOOST_AUTO_TEST_SUITE(outlier_observer)

BOOST_AUTO_TEST_CASE(moments_are_of_all_passes) {
  OutlierObserver observer(2, 1);
  const auto close = boost::test_tools::tolerance(1e-14);
  for (const double none : observer.rms()) BOOST_TEST(std::isnan(none));
  // Two channels over 4 rows: root mean squares 1 and 3, then over 4 more rows 1 and 1.
  observer.record_layer(0, 4, std::vector<float>{4, 36}, 8, 6);
  BOOST_TEST(observer.rms()[0] == std::sqrt(5.0), close);
  BOOST_TEST(observer.kurtosis()[0] == (1.0 + 81) / 2 / 25, close);
  BOOST_TEST(observer.zeros()[0] == 0.75, close);
  observer.record_layer(0, 4, std::vector<float>{4, 4}, 8, 0);
  BOOST_TEST(observer.rms()[0] == std::sqrt(3.0), close);
  BOOST_TEST(observer.kurtosis()[0] == (1.0 + 25) / 2 / 9, close);
  BOOST_TEST(observer.zeros()[0] == 0.375, close);
  BOOST_TEST(std::isnan(observer.rms()[1]));
  observer.reset();
  BOOST_TEST(std::isnan(observer.rms()[0]));
  observer.record_layer(0, 1, std::vector<float>{4, 4}, 8, 8);
  BOOST_TEST(observer.rms()[0] == 2.0, close);
  BOOST_TEST(observer.kurtosis()[0] == 1.0, close);
}

// With all weights 0 the blocks add nothing: after every layer the stream is the token table's rows.
BOOST_AUTO_TEST_CASE(a_model_shows_its_stream) {
  Decoder<tiny, Identity, ReLU, Cpu, Observers<EntropyObserver, OutlierObserver>> model(3);
  auto& table = model.parameters().all().front();
  std::vector<float> values(static_cast<std::size_t>(table.size()));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = i % tiny.width == 2 ? 4.0f : 0.5f;
  model.parameters().write(model.device(), table, values.data());
  const test::RandomBatch random({3, tiny.context}, tiny.vocab_size, test::seed());
  model.loss(random.batch());
  const double mean_square = (16.0 + 14 * 0.25) / 15;
  for (int layer = 0; layer < tiny.layers; ++layer) {
    BOOST_TEST(model.observer().rms()[layer] == std::sqrt(mean_square), boost::test_tools::tolerance(1e-6));
    BOOST_TEST(model.observer().kurtosis()[layer] == (256.0 + 14 * 0.0625) / 15 / (mean_square * mean_square),
               boost::test_tools::tolerance(1e-6));
    BOOST_TEST(model.observer().zeros()[layer] == 1.0);
  }
  // Both parts record the pass, and are reset together.
  BOOST_TEST(model.observer().head_entropy(0, 0) > 0);
  model.observer().reset();
  BOOST_TEST(std::isnan(model.observer().head_entropy(0, 0)));
  BOOST_TEST(std::isnan(model.observer().rms()[0]));
  model.loss(random.batch(), false);
  BOOST_TEST(std::isnan(model.observer().rms()[0]));
}

// About half of a ReLU's units are 0 at the start, none of a GELU's; a hybrid has both.
BOOST_AUTO_TEST_CASE(zeros_tell_the_activations_apart) {
  Decoder<tiny, Identity, Layerwise<ReLU, 1, GELU>, Cpu, OutlierObserver> model(3);
  model.initialize(3);
  model.forward_backward(test::RandomBatch({3, tiny.context}, tiny.vocab_size, test::seed()).batch());
  BOOST_TEST(std::abs(model.observer().zeros()[0] - 0.5) < 0.2);
  BOOST_TEST(model.observer().zeros()[1] < 0.01);
}

BOOST_AUTO_TEST_SUITE_END()
