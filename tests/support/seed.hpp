#pragma once

#include <cstdint>
#include <cstdlib>
#include <random>
#include <string>

namespace lnfree::test {

/// The seed of this run's random inputs: LNFREE_TEST_SEED if that is set, else a new one every time.
inline std::uint64_t seed() {
  static const std::uint64_t seed = [] {
    if (const char* given = std::getenv("LNFREE_TEST_SEED")) return std::strtoull(given, nullptr, 10);
    return static_cast<unsigned long long>(std::random_device{}());
  }();
  return seed;
}

}  // namespace lnfree::test

/// Adds the seed to every failure message in this scope.
#define LNFREE_LOG_SEED() BOOST_TEST_INFO_SCOPE("repeat with LNFREE_TEST_SEED=" << lnfree::test::seed())
