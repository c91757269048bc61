#pragma once

#include <lnfree/observer/entropy_observer.hpp>

namespace lnfree {

/// Run-time choices of the entropy-guided loss; the defaults are those of its authors' code.
struct EntropyRegularizerOptions {
  double coefficient = 1e-5;  ///< What the penalty is multiplied with; 0: none.
  double margin = 0.2;    ///< Deviation that costs nothing, as a share of the largest entropy, ln(context).
  bool sums_rows = true;  ///< Sum over sequences and queries, which grows with the batch; false: their mean.
};

/// An EntropyObserver that also adds the entropy-guided loss of "Entropy-Guided Attention for Private LLMs"
/// (Jha and Reagen, 2025) to what is minimized: for each head and query, the squared deviation of its entropy
/// from the head's threshold where it is more than a margin away,
///
///   coefficient mean over layers and heads of sum over sequences and queries of e^2 [|e| > margin M],
///   e = E - w_h M,   M = ln(context)
///
/// with a threshold w_h for each head, learned and shared by the layers (parameter "entropy_threshold"). It
/// acts in every training pass, is not part of the loss that is reported, and leaves evaluation alone.
class EntropyRegularizer : public EntropyObserver {
 public:
  using EntropyObserver::EntropyObserver;

  EntropyRegularizerOptions& options() { return options_; }
  const EntropyRegularizerOptions& options() const { return options_; }

  /// What the last training pass added to the mean loss, coefficient included.
  double penalty() const { return penalty_; }
  void record_penalty(double penalty) { penalty_ = penalty; }

 private:
  EntropyRegularizerOptions options_;
  double penalty_ = 0;
};

}  // namespace lnfree
