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

/// Makes standard input, output and error safe to have: to be called first in a program. Where one is closed,
/// the next file to be opened would take its place and receive what is printed; a descriptor that can be
/// neither read nor written as intended keeps the place.
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

/// Says on standard error what is wrong, one sentence on one line whatever is quoted in it. Returns 1, the
/// exit status that goes with it.
inline int complain(const std::string& program, std::string_view sentence) {
  std::fprintf(stderr, "%s: %s\n", program.c_str(), lnfree::excerpt(sentence, 2000).c_str());
  return 1;
}
