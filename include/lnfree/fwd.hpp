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

namespace cpu {
struct Cpu;
}
using cpu::Cpu;

template <DecoderConfig Config, class NormPolicy = LayerNorm, class ActivationPolicy = GELU,
          class DeviceTag = Cpu, class ObserverPolicy = NoObserver>
class Decoder;

}  // namespace lnfree
