#pragma once

#include <csignal>
#include <ctime>
#include <initializer_list>

/// Signal handling of the programs in examples/.
namespace signals {

/// Makes a write beyond `ulimit -f` fail, as on a full disk, so that the program can report it. By default
/// the system ends the program silently.
inline void report_file_size_limit() {
  std::signal(SIGXFSZ, SIG_IGN);
}

/// Lets the program continue when its output is no longer read, as after `| head`.
inline void outlive_readers() {
  std::signal(SIGPIPE, SIG_IGN);
}

/// The first signal that asked the program to stop, 0 if none.
inline volatile std::sig_atomic_t stop_signal = 0;

/// Sets stop_signal instead of ending the program when the user interrupts it (INT), the terminal closes
/// (HUP), the processor time of `ulimit -t` is used up (XCPU), or a batch system is about to end it (TERM,
/// USR1, USR2). Ignored signals stay ignored, for nohup. A second INT or TERM ends the program at once.
inline void catch_stop() {
  static volatile std::sig_atomic_t first_second = 0;
  struct sigaction action{};
  action.sa_flags = SA_RESTART;
  action.sa_handler = [](int number) {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (stop_signal == 0) {
      stop_signal = number;
      first_second = static_cast<std::sig_atomic_t>(now.tv_sec);
      return;
    }
    // A second signal within a second is the same request: timeout(1), for example, signals the program and
    // its group. The other signals may repeat by themselves.
    if ((number == SIGINT || number == SIGTERM) && now.tv_sec - first_second > 1) {
      std::signal(number, SIG_DFL);
      std::raise(number);
    }
  };
  for (const int number : {SIGHUP, SIGINT, SIGTERM, SIGXCPU, SIGUSR1, SIGUSR2}) {
    struct sigaction before{};
    sigaction(number, nullptr, &before);
    if (before.sa_handler != SIG_IGN) sigaction(number, &action, nullptr);
  }
}

}  // namespace signals
