#include <vector>

#include <lnfree/core/recording.hpp>

#include "device/workbench.hpp"

using namespace lnfree;
using namespace lnfree::test;

BOOST_AUTO_TEST_SUITE(recording)

// Whether executed or replayed, the work is done each time, on the present contents of memory.
BOOST_AUTO_TEST_CASE_TEMPLATE(work_is_done_each_time, D, Devices) {
  using S = typename D::Scalar;
  D device;
  constexpr Index rows = 3, cols = 7;
  Buffer<D> y_buffer(device, rows * cols * sizeof(S)), bias_buffer(device, cols * sizeof(S));
  const Matrix<S> y(static_cast<S*>(y_buffer.data()), rows, cols);
  const std::vector<S> zeros(rows * cols, S(0.0f));
  Recording<D, int> recording;
  int asked = 0;
  const auto run = [&](int key, float bias) {
    const std::vector<S> biases(cols, S(bias));
    copy_to_device(device, y.data, zeros.data(), zeros.size() * sizeof(S));
    copy_to_device(device, bias_buffer.data(), biases.data(), biases.size() * sizeof(S));
    recording.run(device, key, [&] {
      ++asked;
      for (int k = 0; k < key; ++k) bias_forward(device, y, static_cast<const S*>(bias_buffer.data()));
    });
    std::vector<S> result(rows * cols);
    copy_to_host(device, result.data(), y.data, result.size() * sizeof(S));
    for (const S value : result) BOOST_TEST(static_cast<float>(value) == static_cast<float>(key) * bias);
  };
  // More keys than are stored, and some of them often.
  for (int round = 0; round < 4; ++round) {
    for (const int key : {1, 2, 3}) run(key, static_cast<float>(round + 1));
  }
#ifdef LNFREE_TEST_CUDA
  BOOST_TEST(asked == 6);  // for each key once at first, and once for recording
#else
  BOOST_TEST(asked == 12);
#endif
  for (int key = 1; key < 20; ++key) run(key, 2.0f);
  for (int again = 0; again < 3; ++again) run(1, static_cast<float>(again));
}

BOOST_AUTO_TEST_SUITE_END()
