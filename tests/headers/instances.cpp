#include "all.hpp"

// Explicit instantiations, since compilers give most warnings about templates only when they are
// instantiated.
namespace lnfree {

constexpr DecoderConfig rotary{.layers = 2,
                               .heads = 3,
                               .width = 12,
                               .ffn_width = 44,
                               .context = 9,
                               .vocab_size = 37,
                               .rotary_dims = 2,
                               .parallel_residual = true};

using Observed = Decoder<tiny, Identity, Layerwise<ReLU, 1, GELU>, Profiled<Cpu>,
                         Observers<EntropyObserver, OutlierObserver>>;
using Regularized = Decoder<tiny, RMSNorm, LeakyLearnable<Scope::per_layer>, Reference<double>,
                            EntropyObserver, Sandwich, EntropyGuided>;
using Rotary = Decoder<rotary, DynamicTanh, SquaredReLU, Cpu, NoObserver>;

template class Decoder<tiny, LayerNorm, GELU, Cpu, EntropyObserver>;
template class Decoder<tiny, Identity, Layerwise<ReLU, 1, GELU>, Profiled<Cpu>,
                       Observers<EntropyObserver, OutlierObserver>>;
template class Decoder<tiny, RMSNorm, LeakyLearnable<Scope::per_layer>, Reference<double>, EntropyObserver,
                       Sandwich, EntropyGuided>;
template class Decoder<rotary, DynamicTanh, SquaredReLU, Cpu, NoObserver>;
template class Trainer<Observed>;
template class AdamW<Regularized>;
template class Muon<Regularized>;
template class Trainer<Rotary, Muon, WarmupCosineSchedule>;
[[maybe_unused]] const auto check_gradients = [] { return gradient_check<Regularized>(); };
template std::vector<std::int32_t> generate<Rotary>(Rotary&, std::span<const std::int32_t>, int,
                                                    const SamplingOptions&,
                                                    const std::function<bool(std::int32_t)>&);

}  // namespace lnfree
