#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include <lnfree/checkpoint/open_model.hpp>
#include <lnfree/core/error.hpp>
#include <lnfree/nn/teacher.hpp>
#include <lnfree/objective/objective.hpp>

#include "../configurations.hpp"
#include "trainer_options.hpp"

/// The command-line options of a model's objective, and its teacher.
template <class Model>
class ObjectiveFlags {
  using Objective = typename Model::Objective;
  using Device = typename Model::Device;

 public:
  /// The options as flags, which the command line may change.
  std::vector<PartOption> list() {
    std::vector<PartOption> list;
    if constexpr (lnfree::HasOptions<Objective>) {
      options_.for_each(options_, [&](const char* name, auto& value, const char* help) {
        list.push_back({name, &value, help});
      });
    }
    return list;
  }

  /// Sets the options of the model's objective, and its teacher, from the folder `teacher`, if it has one.
  void apply(Model& model, const std::filesystem::path& teacher) const {
    if constexpr (lnfree::HasOptions<Objective>) model.objective().options() = options_;
    if constexpr (lnfree::LearnsFromTeacher<Objective>) {
      if (teacher.empty())
        throw lnfree::Error("this program learns from a teacher: --teacher DIR, a checkpoint, is required");
      std::shared_ptr opened = lnfree::open_model<Device, lnfree::NoObserver, configurations::Policies>(
          lnfree::present_checkpoint(teacher),
          {.max_batch = model.max_batch(), .context = Model::config.context}, model.device());
      std::string name = lnfree::weights_fingerprint(*opened);
      model.objective().set_teacher(lnfree::teacher_of(std::move(opened)), std::move(name));
    } else if (!teacher.empty()) {
      throw lnfree::Error(
          "this program learns from no teacher; take a configuration whose objective is distillation, such "
          "as "
          "sm_r_distilled");
    }
  }

 private:
  template <class O>
  struct OptionsOf {
    using Type = std::monostate;
  };
  template <lnfree::HasOptions O>
  struct OptionsOf<O> {
    using Type = std::decay_t<decltype(std::declval<O&>().options())>;
  };

  typename OptionsOf<Objective>::Type options_;
};
