// error: lnfree: an optimizer must derive from OptimizerBase<Model> and offer name, Options
#include <string_view>

#include <lnfree/model.hpp>
#include <lnfree/train/trainer.hpp>

using namespace lnfree;

/// Has no bytes().
template <class Model>
struct Unaccounted : OptimizerBase<Model> {
  static constexpr std::string_view name = "unaccounted";
  struct Options {};
  explicit Unaccounted(Model& model, const Options& = {}) : OptimizerBase<Model>(model, "Unaccounted") {}
  double step(double) { return 0; }
};

template class lnfree::Trainer<Decoder<tiny>, Unaccounted>;
