#define BOOST_TEST_MODULE lnfree on a GPU
#define BOOST_TEST_NO_MAIN
#define BOOST_TEST_ALTERNATIVE_INIT_API
#include <boost/test/included/unit_test.hpp>

#include <cstdio>

#include <lnfree/device/cuda/runtime.hpp>

/// The tests' main program. Without a GPU it prints a message and exits with 4, like the trainers.
int main(int argc, char** argv) {
  try {
    lnfree::cuda::Stream stream;
  } catch (const lnfree::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 4;
  }
  return boost::unit_test::unit_test_main(init_unit_test, argc, argv);
}
