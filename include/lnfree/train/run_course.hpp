#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <type_traits>
#include <utility>

#include <lnfree/core/error.hpp>
#include <lnfree/core/excerpt.hpp>
#include <lnfree/core/json.hpp>
#include <lnfree/objective/objective.hpp>
#include <lnfree/optim/adamw.hpp>

/// The course of a run: everything that its results depend on besides its data, by name. A checkpoint stores
/// it, so that a run cannot be resumed with another one.
namespace lnfree {

/// Adds the options of an objective or a removal to a course, under their names.
template <class Options>
void add_options(const Options& options, Json& course) {
  Options::for_each(options, [&](const char* name, auto value, const char*) { course[name] = value; });
}

/// What holds in the course of a checkpoint that does not mention it. Earlier versions left these out,
/// because there was no choice or the tensors showed it.
template <class Model>
Json implied_course() {
  using Objective = typename Model::Objective;
  Json implied{{"objective", Objective::name}, {"optimizer", "adamw"}, {"schedule", "linear"}, {"leaves", 1}};
  AdamWOptions{}.for_each([&](const char* name, auto value) { implied[name] = value; });
  if constexpr (HasOptions<Objective>)
    add_options(std::decay_t<decltype(std::declval<Model&>().objective().options())>(), implied);
  return implied;
}

/// Throws Error, naming the first difference, unless a run with `course` continues the one in `checkpoint`,
/// which was made with `saved`. With `extends` it may have more steps; returns whether it has.
inline bool check_same_course(const std::filesystem::path& checkpoint, const Json& saved, const Json& course,
                              bool extends) {
  bool is_extended = false;
  for (const auto& [name, value] : course.items()) {
    const Json before = saved.value(name, Json());
    if (before == value) continue;
    if (name == "steps" && extends && before.is_number_integer() &&
        before.get<std::int64_t>() < value.get<std::int64_t>()) {
      is_extended = true;
      continue;
    }
    if (name == "leaves") {
      const auto program = [](const Json& leaves) {
        return leaves == 1 ? "a program for a single process" : "a program for several processes";
      };
      throw Error(checkpoint.string() + " was made by " + program(before) + "; resume it with one, since " +
                  program(value) + " adds gradients up in another order");
    }
    throw Error(checkpoint.string() + " was made with " + name + " " +
                (before.is_null() ? "unknown" : excerpt(before.dump())) + ", not " + value.dump() +
                "; resume with the same options");
  }
  return is_extended;
}

}  // namespace lnfree
