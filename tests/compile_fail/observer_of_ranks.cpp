// error: lnfree: with several processes an observer of passes must offer for_each_sum(f)
#include <lnfree/activation/gelu.hpp>
#include <lnfree/device/cpu/cpu.hpp>
#include <lnfree/nn/decoder.hpp>
#include <lnfree/parallel/data_parallel.hpp>

using namespace lnfree;

struct Private {
  static constexpr bool observes_entropy = true;
  Private(int, int) {}
  void reset() {}
  template <class T>
  void record(BatchShape, const T*, const std::int32_t*) {}
};

struct Ranks : SingleProcess {
  static constexpr int max_leaves = 64;
};

Decoder<tiny, LayerNorm, GELU, Cpu, Private> model(1);
DataParallel<decltype(model), Ranks> parallel(model, {}, 1, false);
