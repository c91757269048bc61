#pragma once

#include <cstddef>
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
#include <lnfree/nn/weights_fingerprint.hpp>
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

  /// Bytes of device memory for the teacher in the folder `teacher`, its hidden states included, in passes of
  /// `batch_size` windows; 0 without a teacher.
  std::size_t teacher_bytes([[maybe_unused]] Device& device, [[maybe_unused]] int batch_size,
                            const std::filesystem::path& teacher) const {
    if constexpr (lnfree::LearnsFromTeacher<Objective>) {
      if (teacher.empty()) return 0;
      const auto model = lnfree::plan_model<Device, lnfree::NoObserver, configurations::Policies>(
          lnfree::present_checkpoint(teacher), open_options(batch_size), device);
      const lnfree::Index rows = lnfree::Index{batch_size} * Model::config.context;
      return model.total() + lnfree::bytes_of_states<Model, Teacher>(lnfree::layer_pairs(options_.layers),
                                                                     rows, Model::config.width);
    }
    return 0;
  }

  /// Sets the options of the model's objective, and its teacher, from the folder `teacher`, if it has one.
  void apply(Model& model, const std::filesystem::path& teacher) const {
    if constexpr (lnfree::HasOptions<Objective>) model.objective().options() = options_;
    if constexpr (lnfree::LearnsFromTeacher<Objective>) {
      if (teacher.empty())
        throw lnfree::Error("this program learns from a teacher: --teacher DIR, a checkpoint, is required");
      std::shared_ptr opened = lnfree::open_model<Device, lnfree::NoObserver, configurations::Policies>(
          lnfree::present_checkpoint(teacher), open_options(model.max_batch()), model.device());
      std::string name = lnfree::weights_fingerprint(*opened);
      lnfree::learn_from(model, std::move(opened), std::move(name));
    } else if (!teacher.empty()) {
      throw lnfree::Error(
          "this program learns from no teacher; take a configuration whose objective is distillation, "
          "such as sm_r_distilled");
    }
  }

 private:
  using Teacher = lnfree::DynamicDecoder<Device>;

  static lnfree::OpenOptions open_options(int batch_size) {
    return {
        .purpose = lnfree::Purpose::evaluation, .max_batch = batch_size, .context = Model::config.context};
  }

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
