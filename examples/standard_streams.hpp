#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>
#include <filesystem>
#include <new>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>

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

/// What a program reports about an exception that it caught.
inline std::string sentence_about(const std::exception& error) {
  if (const auto* of_files = dynamic_cast<const std::filesystem::filesystem_error*>(&error)) {
    const std::string path = lnfree::excerpt(of_files->path1().native());
    return (path.empty() ? "a file" : path) + " cannot be used: " + of_files->code().message();
  }
  if (const auto* of_system = dynamic_cast<const std::system_error*>(&error))  // as when a thread is refused
    return "the system refuses what this program needs: " + of_system->code().message() +
           "; end other programs, or raise the limits that ulimit -a shows";
  if (dynamic_cast<const std::bad_alloc*>(&error) || dynamic_cast<const std::length_error*>(&error))
    return "there is not enough memory; end other programs that use it, or ask for less";
  return error.what();
}

/// Prints an error message on standard error, on one line whatever is quoted in it. Returns 1, the exit
/// status.
inline int complain(const std::string& program, std::string_view sentence) {
  std::fprintf(stderr, "%s: %s\n", program.c_str(), lnfree::excerpt(sentence, 2000).c_str());
  return 1;
}
