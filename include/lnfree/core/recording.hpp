#pragma once

namespace lnfree {

/// Work that a device repeats: for equal `Key` values, the same primitives on the same memory with the same
/// arguments. Most devices simply run it each time; a device that can record and replay work has a
/// specialization (device/cuda/recording.hpp).
template <class Device, class Key>
class Recording {
 public:
  /// Runs body(), or replays it. body() must not allocate or copy to or from the host.
  template <class Body>
  void run(Device&, const Key&, const Body& body) {
    body();
  }
};

}  // namespace lnfree
