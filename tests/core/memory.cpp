#include <lnfree/core/memory.hpp>

#include <sys/resource.h>
#include <unistd.h>

#include <cstdint>
#include <fstream>
#include <utility>

#include <boost/test/unit_test.hpp>

#include <lnfree/core/host_memory.hpp>
#include <lnfree/device/eigen/device.hpp>

using namespace lnfree;

BOOST_AUTO_TEST_SUITE(memory)

BOOST_AUTO_TEST_CASE(an_arena_plans_and_places_alike) {
  const auto lay = [](Arena& arena) {
    const float* a = arena.take<float>(3);
    const std::size_t mark = arena.used();
    const double* b = arena.take<double>(100);
    arena.rewind(mark);
    const Matrix<float> c = arena.matrix<float>(2, 5);
    return std::tuple(a, b, c);
  };
  Arena counted;
  lay(counted);
  BOOST_TEST(counted.used() == 64u + 64u);
  BOOST_TEST(counted.peak() == 64u + 832u);

  alignas(64) std::byte memory[64 + 832];
  Arena placed(memory);
  const auto [a, b, c] = lay(placed);
  const auto offset = [&](const void* p) { return static_cast<const std::byte*>(p) - memory; };
  BOOST_TEST(offset(a) == 0);
  BOOST_TEST(offset(b) == 64);
  BOOST_TEST(offset(c.data) == 64);
  BOOST_TEST(c.rows == 2);
  BOOST_TEST(c.cols == 5);
}

BOOST_AUTO_TEST_CASE(a_buffer_is_zeroed_aligned_and_moves) {
  Reference<float> device;
  Buffer<Reference<float>> buffer(device, 1000);
  const auto* bytes = static_cast<const unsigned char*>(buffer.data());
  BOOST_TEST(reinterpret_cast<std::uintptr_t>(bytes) % 64 == 0u);
  bool all_zero = true;
  for (std::size_t i = 0; i < buffer.bytes(); ++i) all_zero = all_zero && bytes[i] == 0;
  BOOST_TEST(all_zero);

  Buffer<Reference<float>> moved = std::move(buffer);
  BOOST_TEST(moved.data() == bytes);
  BOOST_TEST(moved.bytes() == 1000u);
  BOOST_TEST(buffer.data() == nullptr);
  moved = Buffer<Reference<float>>();
  BOOST_TEST(moved.data() == nullptr);
  BOOST_TEST(Buffer<Reference<float>>(device, 0).data() == nullptr);
}

BOOST_AUTO_TEST_CASE(what_the_host_has_left) {
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  BOOST_TEST(host_free_bytes() > 0u);
  BOOST_TEST(host_free_bytes() < static_cast<std::size_t>(sysconf(_SC_PHYS_PAGES)) * page);

  // A process limit includes what the process already has.
  constexpr std::size_t more = std::size_t{256} << 20;
  rlimit before{};
  BOOST_REQUIRE(getrlimit(RLIMIT_AS, &before) == 0);
  std::size_t pages = 0;
  BOOST_REQUIRE(std::ifstream("/proc/self/statm") >> pages);
  const rlimit limited{pages * page + more, before.rlim_max};
  BOOST_REQUIRE(setrlimit(RLIMIT_AS, &limited) == 0);
  const std::size_t left = host_free_bytes();
  BOOST_REQUIRE(setrlimit(RLIMIT_AS, &before) == 0);
  BOOST_TEST(left <= more);
  BOOST_TEST(left > more / 2);
}

BOOST_AUTO_TEST_SUITE_END()
