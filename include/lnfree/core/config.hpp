#pragma once

#include <cmath>

#include <lnfree/core/macros.hpp>

namespace lnfree {

/// Which projections of a block carry a bias.
enum class Biases {
  none,
  query_key,  ///< Queries and keys only: the paper's reference code.
  all,        ///< Every projection of attention and feed-forward network: GPT-2 as published.
};

/// The norm between the last block and the logits.
enum class FinalNorm {
  layer_norm,    ///< A LayerNorm in every configuration, the norm-free ones included: the paper's reference
                 ///< code.
  same_as_norm,  ///< The norm policy of the blocks: a norm-free model then has no norm at all.
  none           ///< No final norm, whatever the norm of the blocks; for PostNorm.
};

/// The architecture of a decoder-only transformer, a compile-time value: the first template argument of
/// Decoder. The defaults are the paper's recipe; everything else (batch size, dropout, seed) is chosen at run
/// time.
struct DecoderConfig {
  int layers;                         ///< L, number of blocks.
  int heads;                          ///< H, attention heads per block.
  int width;                          ///< C, width of the residual stream; a multiple of heads.
  int ffn_width;                      ///< Width of the feed-forward network's hidden layer, 4 C in GPT-2.
  int context;                        ///< T, how many tokens a position can attend to, itself included.
  int vocab_size;                     ///< V, number of token ids.
  int positions = 0;                  ///< Rows of the position table, at least context; 0 means context.
  Biases biases = Biases::query_key;  ///< Which projections have a bias.
  FinalNorm final_norm = FinalNorm::layer_norm;  ///< The norm before the logits.
  bool tied_output = true;                       ///< Whether the output matrix is the token embedding.
  int rotary_dims = 0;             ///< Channels of each head that RoPE rotates; 0: learned positions.
  bool parallel_residual = false;  ///< The default layout: Parallel if true, else PreNorm.

  constexpr bool operator==(const DecoderConfig&) const = default;

  /// D, channels of a head.
  constexpr int head_dim() const { return width / heads; }
  /// Rows of the position table.
  constexpr int position_rows() const { return positions == 0 ? context : positions; }

  /// Standard deviation of the initial weights: 0.02 at GPT-2's width of 768, and 0.02 sqrt(768 / C) at other
  /// widths, which keeps the gain of each matrix the same. With less, a narrow norm-free model trains late or
  /// not at all.
  double init_std() const { return 0.02 * std::sqrt(768.0 / width); }
};

/// A valid DecoderConfig has positive sizes.
constexpr bool sizes_are_positive(const DecoderConfig& c) {
  return c.layers > 0 && c.heads > 0 && c.width > 0 && c.ffn_width > 0 && c.context > 0 && c.vocab_size > 0;
}
/// All heads have the same number of channels.
constexpr bool width_is_a_multiple_of_heads(const DecoderConfig& c) {
  return c.heads <= 0 || c.width % c.heads == 0;
}
/// There is a position for each token of a window.
constexpr bool positions_cover_the_context(const DecoderConfig& c) {
  return c.position_rows() >= c.context;
}
/// RoPE rotates pairs of channels within a head.
constexpr bool rotary_dims_fit_the_head(const DecoderConfig& c) {
  return c.heads <= 0 || (c.rotary_dims >= 0 && c.rotary_dims % 2 == 0 && c.rotary_dims <= c.width / c.heads);
}

/// The paper's GPT-2: 124 M parameters, windows of 128 tokens out of 1024 allocated positions.
inline constexpr DecoderConfig gpt2_small{.layers = 12,
                                          .heads = 12,
                                          .width = 768,
                                          .ffn_width = 3072,
                                          .context = 128,
                                          .vocab_size = 50000,
                                          .positions = 1024};

/// Pythia-70M (Biderman et al., 2023), a GPT-NeoX: rotary positions in a quarter of each head's channels,
/// parallel attention and feed-forward network, biases everywhere, an untied output matrix. Windows of up to
/// 256 tokens.
inline constexpr DecoderConfig pythia_70m{.layers = 6,
                                          .heads = 8,
                                          .width = 512,
                                          .ffn_width = 2048,
                                          .context = 256,
                                          .vocab_size = 50000,
                                          .biases = Biases::all,
                                          .tied_output = false,
                                          .rotary_dims = 16,
                                          .parallel_residual = true};

/// The smallest shape that shows the paper's whole comparison in minutes on a CPU.
inline constexpr DecoderConfig demo{
    .layers = 8, .heads = 4, .width = 64, .ffn_width = 256, .context = 128, .vocab_size = 4096};

/// Pythia's architecture at the size of demo.
inline constexpr DecoderConfig pythia_demo{.layers = 8,
                                           .heads = 4,
                                           .width = 64,
                                           .ffn_width = 256,
                                           .context = 256,
                                           .vocab_size = 4096,
                                           .biases = Biases::all,
                                           .tied_output = false,
                                           .rotary_dims = 4,
                                           .parallel_residual = true};

/// A shape for tests and first experiments: it has every part, and no size is a multiple of the vector width.
inline constexpr DecoderConfig tiny{
    .layers = 2, .heads = 3, .width = 15, .ffn_width = 44, .context = 9, .vocab_size = 37, .positions = 11};

/// `shape` as the paper's text describes it: without a final norm in the norm-free configurations. (Each
/// shape's default follows the paper's reference code, which keeps one.)
constexpr DecoderConfig clean(DecoderConfig shape) {
  shape.final_norm = FinalNorm::same_as_norm;
  return shape;
}

}  // namespace lnfree
