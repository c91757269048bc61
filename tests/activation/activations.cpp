#include <cmath>
#include <limits>
#include <ratio>
#include <tuple>

#include <boost/test/unit_test.hpp>

#include <lnfree/activation/call.hpp>
#include <lnfree/activation/gelu.hpp>
#include <lnfree/activation/layerwise.hpp>
#include <lnfree/activation/leaky_learnable.hpp>
#include <lnfree/activation/leaky_relu.hpp>
#include <lnfree/activation/relu.hpp>
#include <lnfree/activation/silu.hpp>
#include <lnfree/activation/squared_relu.hpp>

#include "support/policies.hpp"

using namespace lnfree;

namespace {

using Activations = std::tuple<GELU, GELUTanh, ReLU, LeakyReLU<>, LeakyReLU<std::ratio<1, 10>>,
                               LeakyLearnable<Scope::per_layer>, LeakyLearnable<Scope::global>, SquaredReLU,
                               SiLU, test::LearnableSwish>;

constexpr double h = 1e-6;

template <class F>
double difference(F f, double x) {
  return (f(x + h) - f(x - h)) / (2 * h);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(activations)

BOOST_AUTO_TEST_CASE_TEMPLATE(derivative_is_the_slope_of_value, A, Activations) {
  static_assert(Activation<A>);
  for (const double p : {0.01, -0.3, 1.2}) {
    for (double x = -6.05; x < 6.1; x += 0.1) {  // no point lies at the kink
      const double y = activation_value<A>(x, p);
      const double saved = A::saved == Saved::input ? x : y;
      const double expected = difference([&](double t) { return activation_value<A>(t, p); }, x);
      BOOST_TEST(std::abs(activation_derivative<A>(saved, p) - expected) < 1e-8,
                 A::name << " at " << x << ", parameter " << p);
      if constexpr (LearnableActivation<A>) {
        const double by_p = difference([&](double t) { return A::value(x, t); }, p);
        BOOST_TEST(std::abs(A::parameter_derivative(x, p) - by_p) < 1e-8,
                   A::name << " at " << x << ", parameter " << p);
      }
    }
  }
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_nan_is_never_hidden, A, Activations) {
  BOOST_TEST(std::isnan(activation_value<A>(std::numeric_limits<double>::quiet_NaN(), 0.5)));
  BOOST_TEST(std::isnan(activation_value<A>(std::numeric_limits<float>::quiet_NaN(), 0.5f)));
}

BOOST_AUTO_TEST_CASE(values) {
  const auto close = boost::test_tools::tolerance(1e-14);
  BOOST_TEST(GELU::value(1.0) == 0.8413447460685429, close);  // Phi(1)
  BOOST_TEST(GELU::value(-2.0) == -0.04550026389635842, close);
  BOOST_TEST(GELUTanh::value(1.0) == 0.8411919906082768, close);
  BOOST_TEST(GELUTanh::value(-2.0) == -0.04540230591222494, boost::test_tools::tolerance(1e-12));
  BOOST_TEST(ReLU::value(-1.0) == 0.0);
  BOOST_TEST(ReLU::value(2.5) == 2.5);
  BOOST_TEST(ReLU::derivative(0.0) == 0.0);
  BOOST_TEST(LeakyReLU<>::value(-2.0) == -0.02, close);
  BOOST_TEST((LeakyReLU<std::ratio<1, 10>>::value(-2.0)) == -0.2, close);
  BOOST_TEST(LeakyReLU<>::value(2.0) == 2.0);
  BOOST_TEST(LeakyReLU<>::derivative(0.0) == 1.0);
  BOOST_TEST(LeakyLearnable<Scope::global>::value(-2.0, 0.25) == -0.5);
  BOOST_TEST(LeakyLearnable<Scope::global>::value(2.0, 0.25) == 2.0);
  BOOST_TEST(LeakyLearnable<Scope::global>::initial == 0.01);
  BOOST_TEST(SquaredReLU::value(-3.0) == 0.0);
  BOOST_TEST(SquaredReLU::value(3.0) == 9.0);
  BOOST_TEST(SiLU::value(1.0) == 0.7310585786300049, close);
  BOOST_TEST(SiLU::value(-2.0) == -0.2384058440442351, close);
}

BOOST_AUTO_TEST_CASE(layerwise_names_and_chooses) {
  using Hybrid = Layerwise<ReLU, 4, GELU>;
  static_assert(ActivationOfLayers<Hybrid> && !Activation<Hybrid>);
  BOOST_TEST(Hybrid::name == "relu*4+gelu");
  BOOST_TEST((Layerwise<GELU, 0, ReLU>::name) == "gelu*0+relu");
  BOOST_TEST((Layerwise<GELU, 120, ReLU>::name) == "gelu*120+relu");
  using Turns = Layerwise<ReLU, 1, GELU, 2>;
  static_assert(ActivationOfLayers<Turns> && !Activation<Turns>);
  BOOST_TEST(Turns::name == "relu*1+gelu*2");
  BOOST_TEST(LeakyReLU<>::name == "leaky_relu(1/100)");
  BOOST_TEST((LeakyReLU<std::ratio<-3, 25>>::name) == "leaky_relu(-3/25)");
  const auto name = [](auto here) { return here.name; };
  for (int layer = 0; layer < 8; ++layer) {
    BOOST_TEST(with_activation<Hybrid>(layer, name) == (layer < 4 ? "relu" : "gelu"));
    BOOST_TEST(with_activation<Turns>(layer, name) == (layer % 3 == 0 ? "relu" : "gelu"));
    BOOST_TEST(with_activation<SiLU>(layer, name) == "silu");
  }
}

BOOST_AUTO_TEST_SUITE_END()
