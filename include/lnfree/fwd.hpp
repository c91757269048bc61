#pragma once

#include <lnfree/core/config.hpp>

/// Names without definitions: Decoder with the defaults of its template arguments, and the policies of the
/// paper's four configurations.
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

/// In place of a layout: Parallel or PreNorm, as Config.parallel_residual says.
struct AsConfigured;

template <DecoderConfig Config, class NormPolicy = LayerNorm, class ActivationPolicy = GELU,
          class DeviceTag = Cpu, class ObserverPolicy = NoObserver, class LayoutPolicy = AsConfigured,
          template <class> class ObjectivePolicy = CrossEntropy>
class Decoder;

}  // namespace lnfree
