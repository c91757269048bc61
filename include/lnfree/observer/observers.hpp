#pragma once

namespace lnfree {

/// Several observers as one, for example Observers<EntropyObserver, OutlierObserver>; what each has to say is
/// asked of the whole.
template <class... Parts>
class Observers : public Parts... {
 public:
  static constexpr bool observes_entropy = (Parts::observes_entropy || ...);
  static constexpr bool observes_stream = (Parts::observes_stream || ...);

  Observers(int layers, int heads) : Parts(layers, heads)... {}

  void reset() { (Parts::reset(), ...); }
};

}  // namespace lnfree
