#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>

#include <lnfree/core/error.hpp>
#include <lnfree/core/excerpt.hpp>

/// Protects standard input, output and error; call it first in a program. If one of them is closed, the next
/// opened file would take its number and receive what is printed. So a descriptor that cannot be used is
/// opened in its place.
inline void keep_standard_streams() {
  for (const int descriptor : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    if (::fcntl(descriptor, F_GETFD) < 0)
      (void)!::open("/dev/null",
                    descriptor == STDIN_FILENO ? O_WRONLY : O_RDONLY);  // takes the lowest number
}

/// For a program whose result goes to standard output: throws Error unless all that was printed has arrived.
inline void require_standard_output() {
  errno = 0;
  if (std::fflush(stdout) == 0 && !std::ferror(stdout)) return;
  const std::string reason = errno == 0 ? "" : std::string(": ") + std::strerror(errno);
  throw lnfree::Error("the result could not be written to standard output" + reason +
                      "; free space there, or send it elsewhere.");
}

/// Prints an error message on standard error, on one line whatever is quoted in it. Returns 1, the exit
/// status.
inline int complain(const std::string& program, std::string_view sentence) {
  std::fprintf(stderr, "%s: %s\n", program.c_str(), lnfree::excerpt(sentence, 2000).c_str());
  return 1;
}
