#include <cstdint>
#include <numeric>

#include <lnfree/core/error.hpp>

#include "device/workbench.hpp"

using namespace lnfree;
using namespace lnfree::test;

BOOST_AUTO_TEST_SUITE(device_memory)

BOOST_AUTO_TEST_CASE_TEMPLATE(copies, D, Devices) {
  D device;
  std::vector<int> host(1000), back(1000);
  std::iota(host.begin(), host.end(), 1);
  const std::size_t bytes = host.size() * sizeof(int);
  Buffer<D> memory(device, bytes);
  copy_to_device(device, memory.data(), host.data(), bytes);
  copy_to_host(device, back.data(), memory.data(), bytes);
  BOOST_TEST((back == host));
  fill_zero(device, memory.data(), bytes / 2);
  copy_to_host(device, back.data(), memory.data(), bytes);
  std::fill(host.begin(), host.begin() + 500, 0);
  BOOST_TEST((back == host));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(allocation, D, Devices) {
  D device;
  void* memory = allocate(device, 100);
  BOOST_TEST(reinterpret_cast<std::uintptr_t>(memory) % 64 == 0u);
  deallocate(device, memory);
  volatile std::size_t too_much = std::size_t{1} << 60;
  BOOST_CHECK_EXCEPTION(allocate(device, too_much), Error, [](const Error& error) {
    return std::string(error.what()).find("1152921504606846976 bytes") != std::string::npos;
  });
}

BOOST_AUTO_TEST_CASE_TEMPLATE(what_a_device_says_of_itself, D, Devices) {
  D device;
  BOOST_TEST(free_bytes(device) > std::size_t{1} << 20);
  BOOST_TEST(!device_name(device).empty());
}

BOOST_AUTO_TEST_SUITE_END()
