#include "training_step.hpp"

[[maybe_unused]] static const bool registered = (benchmarks::register_shape<benchmarks::small_shape>(), true);
