#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <vector>

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

// The host's memory may be used again at once, after small copies, after more of them than a device keeps,
// and after large ones.
BOOST_AUTO_TEST_CASE_TEMPLATE(copies_take_what_is_there, D, Devices) {
  D device;
  std::vector<std::size_t> counts{1, 17, 4096, 300'000, 5};
  counts.insert(counts.end(), 90, 5000);  // 1.8 MB
  std::vector<Buffer<D>> buffers;
  std::vector<int> host;
  for (std::size_t n = 0; n < counts.size(); ++n) {
    buffers.emplace_back(device, counts[n] * sizeof(int));
    host.assign(counts[n], static_cast<int>(n) + 1);
    copy_to_device(device, buffers.back().data(), host.data(), counts[n] * sizeof(int));
    std::fill(host.begin(), host.end(), -1);
  }
  for (std::size_t n = 0; n < counts.size(); ++n) {
    host.assign(counts[n], 0);
    copy_to_host(device, host.data(), buffers[n].data(), counts[n] * sizeof(int));
    BOOST_TEST(std::count(host.begin(), host.end(), static_cast<int>(n) + 1) ==
               static_cast<std::ptrdiff_t>(counts[n]));
  }
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
