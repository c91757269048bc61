#include <algorithm>
#include <ratio>
#include <string>

#include <boost/test/unit_test.hpp>

#include <lnfree/activation/gelu.hpp>
#include <lnfree/activation/layerwise.hpp>
#include <lnfree/activation/leaky_learnable.hpp>
#include <lnfree/activation/leaky_relu.hpp>
#include <lnfree/activation/relu.hpp>
#include <lnfree/activation/silu.hpp>
#include <lnfree/activation/squared_relu.hpp>
#include <lnfree/device/eigen/eigen.hpp>
#include <lnfree/layout/parallel.hpp>
#include <lnfree/layout/post_norm.hpp>
#include <lnfree/layout/pre_norm.hpp>
#include <lnfree/layout/sandwich.hpp>
#include <lnfree/norm/dynamic_erf.hpp>
#include <lnfree/norm/dynamic_tanh.hpp>
#include <lnfree/norm/rms_norm.hpp>
#include <lnfree/norm/staged.hpp>
#include <lnfree/norm/tapered.hpp>
#include <lnfree/objective/entropy_guided.hpp>
#include <lnfree/objective/steady_scale.hpp>
#include <lnfree/observer/no_observer.hpp>
#include <lnfree/train/gradient_check.hpp>

#include "support/layouts.hpp"
#include "support/objectives.hpp"
#include "support/policies.hpp"
#include "support/random_batch.hpp"

using namespace lnfree;

namespace {

constexpr DecoderConfig no_biases = [] {
  DecoderConfig config = tiny;
  config.biases = Biases::none;
  return config;
}();

template <DecoderConfig Config, class N, class A>
using Oracle = Decoder<Config, N, A, Reference<double>, NoObserver>;

template <DecoderConfig Config, class N, class A>
void check_gradients(std::size_t parameters, GradientCheckOptions options = {}) {
#if LNFREE_SANITIZE
  options.elements = std::min(options.elements, 4);  // whose passes touch the same memory as those of more
#endif
  const GradientReport report = gradient_check<Oracle<Config, N, A>>(options);
  BOOST_TEST(report.parameters.size() == parameters);
  BOOST_TEST(report.worst() < 1e-6, "\n" << report.text());
}

/// A derivative that is 1 % off.
struct WrongDerivative : GELU {
  template <class T>
  static T derivative(T x) {
    return T(1.01) * GELU::derivative(x);
  }
};

struct WrongParameterDerivative : LeakyLearnable<Scope::global> {
  template <class T>
  static T parameter_derivative(T x, T slope) {
    return T(1.01) * LeakyLearnable<Scope::global>::parameter_derivative(x, slope);
  }
};

/// Ignores that the mean depends on x: in the derivative the shift is constant.
struct WrongNorm : LayerNorm {
  static RowStatistics<double> statistics(double mean, double variance) {
    return LayerNorm::statistics(mean, variance);
  }
  static RowStatistics<Dual<double>> statistics(Dual<double> mean, Dual<double> variance) {
    return {Dual<double>(mean.value), LayerNorm::statistics(mean, variance).scale};
  }
};

constexpr DecoderConfig no_final_norm = [] {
  DecoderConfig config = tiny;
  config.final_norm = FinalNorm::none;
  return config;
}();

/// Both sublayers read the sum of two earlier values, and there is a gate: values with several uses need a
/// sum of gradients.
struct Tangled {
  static constexpr std::string_view name = "tangled";
  static auto wire(auto& layout, auto x) {
    const auto attended = layout.attention(layout.norm("ln_1", NormSite::attention, x));
    const auto gated = layout.template norm<test::Gate>("gate", NormSite::attention, attended);
    const auto y = layout.add(x, gated);
    return layout.add(x, layout.feed_forward(y));
  }
};

template <DecoderConfig Config, class N, class A, class L, template <class> class O = CrossEntropy>
void check_layout(std::size_t parameters) {
  const GradientReport report =
      gradient_check<Decoder<Config, N, A, Reference<double>, NoObserver, L, O>>({.elements = 4});
  BOOST_TEST(report.parameters.size() == parameters);
  BOOST_TEST(report.worst() < 1e-6, L::name << "\n" << report.text());
}

/// The parameters whose gradients are wrong.
template <class M>
std::string caught() {
  std::string names;
  for (const auto& parameter : gradient_check<M>().parameters) {
    if (!(parameter.error < 1e-6)) names += parameter.parameter + " ";
  }
  return names;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(gradients)

// Two embeddings; for each of two layers four matrices, one bias and the norms' four; ln_f's two; slopes.
BOOST_AUTO_TEST_CASE(the_paper_s_configurations) {
  check_gradients<tiny, LayerNorm, GELU>(2 + 2 * 9 + 2);
  check_gradients<tiny, LayerNorm, ReLU>(2 + 2 * 9 + 2);
  check_gradients<tiny, Identity, GELU>(2 + 2 * 5 + 2);
  check_gradients<tiny, Identity, ReLU>(2 + 2 * 5 + 2);
  check_gradients<tiny, Identity, LeakyLearnable<Scope::per_layer>>(2 + 2 * 6 + 2);
  check_gradients<tiny, Identity, LeakyLearnable<Scope::global>>(2 + 2 * 5 + 2 + 1);
}

BOOST_AUTO_TEST_CASE(without_any_norm) {
  check_gradients<clean(tiny), Identity, GELU>(2 + 2 * 5);
  check_gradients<clean(tiny), Identity, ReLU>(2 + 2 * 5);
  check_gradients<clean(tiny), LayerNorm, ReLU>(2 + 2 * 9 + 2);
}

BOOST_AUTO_TEST_CASE(other_layouts) {
  check_gradients<test::untied_all_biases, LayerNorm, GELUTanh>(2 + 2 * 12 + 2 + 1);
  check_gradients<no_biases, Identity, LeakyReLU<std::ratio<1, 10>>>(2 + 2 * 4 + 2);
}

BOOST_AUTO_TEST_CASE(pythia_s_layout) {
  check_gradients<test::parallel_rotary, LayerNorm, GELU>(1 + 2 * 12 + 2 + 1);
  check_gradients<test::parallel_rotary, Identity, ReLU>(1 + 2 * 8 + 2 + 1);
}

BOOST_AUTO_TEST_CASE(past_the_paper) {
  check_gradients<clean(tiny), RMSNorm, SiLU>(2 + 2 * 7 + 1);
  check_gradients<clean(tiny), DynamicTanh, SquaredReLU>(2 + 2 * (5 + 2 * 3) + 3);
  check_gradients<clean(tiny), DynamicErf, GELU>(2 + 2 * (5 + 2 * 4) + 4);
  check_gradients<tiny, Identity, Layerwise<ReLU, 1, GELU>>(2 + 2 * 5 + 2);
  check_gradients<tiny, Identity, Layerwise<LeakyLearnable<Scope::per_layer>, 1, GELU>>(2 + 2 * 5 + 1 + 2);
}

// Settings have no gradient.
BOOST_AUTO_TEST_CASE(norms_on_their_way_out) {
  check_gradients<clean(tiny), test::HalfOpen<Tapered, 0>, GELU>(2 + 2 * 9 + 2);
  check_gradients<clean(tiny), test::HalfOpen<Tapered, 3>, GELU>(2 + 2 * 9 + 2);
  check_gradients<clean(tiny), test::HalfOpen<Tapered, 10>, GELU>(2 + 2 * 9 + 2);
  check_gradients<clean(tiny), test::HalfOpen<Staged, 3>, ReLU>(2 + 2 * 11 + 2);
  check_gradients<clean(test::parallel_rotary), test::HalfOpen<Staged, 3>, GELU>(1 + 2 * 14 + 2 + 1);
}

// Under sanitizers, where a model takes many seconds to compile, only those that differ most.
BOOST_AUTO_TEST_CASE(layouts) {
  check_layout<clean(tiny), test::BentNorm, GELU, Sandwich>(2 + 2 * (5 + 4 * 5) + 5);
  check_layout<tiny, Identity, ReLU, Tangled>(2 + 2 * 6 + 2);
#if !LNFREE_SANITIZE
  check_layout<tiny, LayerNorm, GELU, Parallel>(2 + 2 * 9 + 2);
  check_layout<no_final_norm, LayerNorm, GELU, PostNorm>(2 + 2 * 9);
  check_layout<no_final_norm, Identity, ReLU, PostNorm>(2 + 2 * 5);
  check_layout<tiny, LayerNorm, GELU, Sandwich>(2 + 2 * 13 + 2);
  check_layout<tiny, Identity, ReLU, Sandwich>(2 + 2 * 5 + 2);
  check_layout<tiny, LayerNorm, GELU, Tangled>(2 + 2 * 8 + 2);
#endif
}

BOOST_AUTO_TEST_CASE(objectives) {
  check_layout<tiny, Identity, GELU, PreNorm, test::PenalizedHidden>(2 + 2 * 5 + 2);
  check_layout<tiny, LayerNorm, GELU, PostNorm, test::PenalizedStream>(2 + 2 * 9 + 2 + 1);
  check_layout<tiny, LayerNorm, GELU, Parallel, test::HalvedLoss>(2 + 2 * 9 + 2);
}

BOOST_AUTO_TEST_CASE(steady_scale) {
  using M = Decoder<clean(tiny), test::HalfOpen<Tapered, 3>, GELU, Reference<double>, NoObserver, PreNorm,
                    SteadyScale>;
  const GradientReport report = gradient_check<M>(
      {}, [](M& model) { model.objective().options() = {.coefficient = 3.0, .end_of_text = 5}; });
  BOOST_TEST(report.worst() < 1e-6, "\n" << report.text());
}

// A coefficient that gives the penalty a gradient as large as the loss's.
BOOST_AUTO_TEST_CASE(entropy_guided) {
  using M = Decoder<tiny, Identity, GELU, Reference<double>, NoObserver, PreNorm, EntropyGuided>;
  for (const bool sums : {true, false}) {
    const auto strong = [=](M& model) {
      model.objective().options() = {.coefficient = sums ? 1.0 : 10.0, .margin = 0.05, .sums_rows = sums};
    };
    const GradientReport report = gradient_check<M>({}, strong);
    BOOST_TEST(report.parameters.size() == 2u + 2 * 5 + 2 + 1);
    BOOST_TEST(report.worst() < 1e-6, "\n" << report.text());
    // The penalty matters: without it the query and key matrices have another gradient.
    M model(2);
    strong(model);
    const test::RandomBatch random({2, tiny.context}, tiny.vocab_size, 1);
    const auto gradient = [&](double coefficient) {
      model.initialize(1, 0.5);  // from heads that are not uniform, whose entropy is stationary
      model.objective().options().coefficient = coefficient;
      model.parameters().zero_gradients(model.device());
      model.forward_backward(random.batch());
      for (const auto& p : model.parameters().all()) {
        if (p.name == "h.0.attn.c_attn.weight")
          return model.parameters().read(model.device(), p, model.parameters().gradients());
      }
      throw Error("the model has no attention");
    };
    const auto with = gradient(model.objective().options().coefficient), without = gradient(0);
    double difference = 0, norm = 0;
    for (std::size_t i = 0; i < with.size(); ++i) {
      difference += (with[i] - without[i]) * (with[i] - without[i]);
      norm += without[i] * without[i];
    }
    BOOST_TEST(difference > 0.01 * norm);
  }
}

BOOST_AUTO_TEST_CASE(policies_of_one_s_own) {
  check_gradients<clean(tiny), RMSNorm, test::LearnableSwish>(2 + 2 * 8 + 1);
  check_gradients<clean(tiny), test::PlainNorm, GELU>(2 + 2 * 5);
  check_gradients<clean(tiny), test::BentNorm, GELU>(2 + 2 * (5 + 2 * 5) + 5);
}

BOOST_AUTO_TEST_CASE(with_dropout) {
  check_gradients<tiny, LayerNorm, GELU>(2 + 2 * 9 + 2, {.seed = 4, .dropout = 0.3});
}

BOOST_AUTO_TEST_CASE(every_element_of_another_batch) {
  check_gradients<tiny, Identity, GELU>(2 + 2 * 5 + 2, {.seed = 2, .batch = 1, .elements = 200});
}

BOOST_AUTO_TEST_CASE(wrong_policies_are_caught) {
  BOOST_TEST((caught<Oracle<tiny, LayerNorm, GELU>>() == ""));
  // Only the parameters before the last activation get a wrong gradient.
  const std::string activation = caught<Oracle<tiny, LayerNorm, WrongDerivative>>();
  BOOST_TEST(activation.find("h.1.mlp.c_fc.weight ") != std::string::npos, activation);
  BOOST_TEST(activation.find("wte.weight ") != std::string::npos, activation);
  BOOST_TEST(activation.find("h.1.mlp.c_proj.weight ") == std::string::npos, activation);
  BOOST_TEST((caught<Oracle<tiny, Identity, WrongParameterDerivative>>() == "act.slope "));
  const std::string norm = caught<Oracle<tiny, WrongNorm, GELU>>();
  BOOST_TEST(norm.find("wpe.weight ") != std::string::npos, norm);
  BOOST_TEST(norm.find("h.1.mlp.c_proj.weight ") == std::string::npos, norm);
}

BOOST_AUTO_TEST_CASE(the_report_tells_the_worst_element) {
  const GradientReport report = gradient_check<Oracle<tiny, LayerNorm, WrongDerivative>>();
  BOOST_TEST(report.worst() > 1e-3);
  BOOST_TEST(report.text().find("wte.weight[") != std::string::npos);
  GradientReport broken = report;
  broken.parameters[1].error = NAN;
  BOOST_TEST(std::isnan(broken.worst()));
}

BOOST_AUTO_TEST_SUITE_END()
