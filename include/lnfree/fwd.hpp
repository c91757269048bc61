#pragma once

#include <lnfree/core/config.hpp>

/// Forward declarations: Decoder with its default template arguments, and the policies of the paper's four
/// configurations.
namespace lnfree {

struct LayerNorm;
struct Identity;

struct GELU;
struct GELUTanh;
struct ReLU;

struct NoObserver;
class EntropyObserver;

struct PreNorm;
struct Parallel;

template <class Device>
struct CrossEntropy;

namespace cpu {
struct Cpu;
}
using cpu::Cpu;

/// Stands for the layout that Config.parallel_residual selects: Parallel or PreNorm.
struct AsConfigured;

template <DecoderConfig Config, class NormPolicy = LayerNorm, class ActivationPolicy = GELU,
          class DeviceTag = Cpu, class ObserverPolicy = NoObserver, class LayoutPolicy = AsConfigured,
          template <class> class ObjectivePolicy = CrossEntropy>
class Decoder;

}  // namespace lnfree
