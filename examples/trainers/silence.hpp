#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cstdio>

/// Discards what a process writes to a standard stream, so that only one of several processes with the same
/// output prints it.
class Silence {
 public:
  Silence(int descriptor, bool is_on) : descriptor_(descriptor) {
    if (!is_on) return;
    const int nowhere = ::open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (nowhere < 0) return;
    kept_ = ::fcntl(descriptor, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    ::dup2(nowhere, descriptor);
    ::close(nowhere);
  }
  Silence(const Silence&) = delete;
  Silence& operator=(const Silence&) = delete;
  ~Silence() {
    if (kept_ < 0) return;
    std::fflush(nullptr);  // while output is discarded
    ::dup2(kept_, descriptor_);
    ::close(kept_);
  }

 private:
  int descriptor_;
  int kept_ = -1;
};
