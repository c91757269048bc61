#pragma once

namespace lnfree {

/// One AdamW update as torch.optim.AdamW defines it (Loshchilov and Hutter, 2019), for every element with
/// gradient g = gradient_scale * gradient:
///
///   w -= learning_rate * weight_decay * w
///   m  = beta1 m + (1 - beta1) g,   v = beta2 v + (1 - beta2) g^2
///   w -= learning_rate * (m / correction1) / (sqrt(v / correction2) + epsilon)
///
/// with correction_k = 1 - beta_k^t at update t = 1, 2, ...
struct AdamWStep {
  double learning_rate;
  double beta1;
  double beta2;
  double epsilon;
  double weight_decay;
  double gradient_scale;
  double correction1;
  double correction2;
};

}  // namespace lnfree
