#pragma once

#include <cstdint>
#include <type_traits>

#include <lnfree/checkpoint/named_parts.hpp>
#include <lnfree/model.hpp>

/// The lines of configurations.def as C++. An activation or norm of your own is included here.
namespace configurations {

using namespace lnfree;

/// The policies of a model of any shape. A Decoder is written out with them, since nvcc 13.0 does not compile
/// an alias with the shape as its argument.
template <class Norm, class Activation, class Layout = AsConfigured,
          template <class> class Objective = CrossEntropy>
struct Configuration {
  using NormPolicy = Norm;
  using ActivationPolicy = Activation;
  using LayoutPolicy = Layout;

  template <class Model>
  using ObjectivePolicy = Objective<Model>;
};

/// How models of a size are trained on a CPU. On a GPU a step has the same number of windows, in passes as
/// large as its memory allows.
struct Training {
  std::int64_t steps;
  int batch_size;  ///< Windows in one pass.
  int accumulate;  ///< Passes in one optimizer step.
  double learning_rate;
  double warmup_ratio;
  double weight_decay;
  double init_std;  ///< Standard deviation of the initial weights; 0: DecoderConfig::init_std().
};

/// Choices in which recipes differ.
struct Recipe {
  FinalNorm final_norm;
  double dropout;
  bool decay_slopes;
  bool ties_output = true;  ///< false: the output matrix is never the embedding, whatever the shape says.
};

/// A shape of models, and how they are trained.
struct Shape {
  DecoderConfig config;
  Training training;

  /// The architecture with `recipe`.
  constexpr DecoderConfig by(const Recipe& recipe) const {
    DecoderConfig result = config;
    result.final_norm = recipe.final_norm;
    if (!recipe.ties_output) result.tied_output = false;
    return result;
  }
};

// The names in the file become constants in these namespaces.
namespace trainings {
#define TRAINING(name, ...) inline constexpr Training name{__VA_ARGS__};
#include "configurations.def"
}  // namespace trainings

namespace recipes {
#define RECIPE(name, ...) inline constexpr Recipe name{__VA_ARGS__};
#include "configurations.def"
}  // namespace recipes

namespace shapes {
#define SHAPE(name, training, ...) inline constexpr Shape name{lnfree::__VA_ARGS__, trainings::training};
#include "configurations.def"
}  // namespace shapes

#define CONFIGURATION(name, label, ...) \
  template <DecoderConfig shape>        \
  using name = Configuration<__VA_ARGS__>;
#include "configurations.def"

/// The policies that programs can choose by name: those of the library, and those in the list.
struct Policies {
  template <class Known, class... More>
  struct With;
  template <class... Known, class... More>
  struct With<PolicyList<Known...>, More...> {
    using List = PolicyList<Known..., More...>;
  };
  template <class Layout>
  using Named = std::conditional_t<std::is_same_v<Layout, AsConfigured>, PreNorm, Layout>;

#define CONFIGURATION(name, ...) , typename name<demo>::NormPolicy
  using Norms = typename With<KnownPolicies::Norms
#include "configurations.def"
                              >::List;
#define CONFIGURATION(name, ...) , typename name<demo>::ActivationPolicy
  using Activations = typename With<KnownPolicies::Activations
#include "configurations.def"
                                    >::List;
#define CONFIGURATION(name, ...) , Named<typename name<demo>::LayoutPolicy>
  using Layouts = typename With<KnownPolicies::Layouts
#include "configurations.def"
                                >::List;
};

}  // namespace configurations
