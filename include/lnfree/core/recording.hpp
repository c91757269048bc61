#pragma once

namespace lnfree {

/// Work that is asked of a device again and again, the same wherever `Key` is the same: the same primitives
/// on the same memory with the same numbers. On most devices it is asked for anew each time; one that can
/// repeat work as a whole has a specialization (device/cuda/recording.hpp).
template <class Device, class Key>
class Recording {
 public:
  /// Has the work done that body() asks for. body() allocates nothing and copies nothing to or from the host.
  template <class Body>
  void run(Device&, const Key&, const Body& body) {
    body();
  }
};

}  // namespace lnfree
