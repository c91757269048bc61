#pragma once

#include <stdexcept>
#include <string>

namespace lnfree {

/// What every lnfree function throws on bad input: one sentence that says what is wrong, where, what was
/// expected, and what to do. Programs print it and exit with 1.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Thrown when a program's device, such as a GPU, is missing. Programs exit with 4.
class NoDevice : public Error {
 public:
  using Error::Error;
};

}  // namespace lnfree
