// Runs every native test, or those whose name holds the first argument. Exit status 1 when one failed, 2 when none ran, 3 when
// one hung, for NATIVE_TEST_LIMIT_S (120) seconds: it is named, and the program ends there and then. No thread watches: some
// tests fork, which the thread sanitizer permits to a program with one thread only.
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>

#include "check.hpp"

namespace {

std::string under_way;

void say(const char* what) {  // from a signal handler too
  (void)!::write(STDOUT_FILENO, what, std::char_traits<char>::length(what));
  (void)!::write(STDOUT_FILENO, under_way.data(), under_way.size());
  (void)!::write(STDOUT_FILENO, "\n", 1);
}

[[noreturn]] void terminated() {
  say("ENDED THE PROGRAM ");
  std::abort();
}

void hung(int) {
  say("HUNG ");
  ::_exit(3);
}

}  // namespace

int main(int count, char** arguments) {
  const std::string wanted = count > 1 ? arguments[1] : "";
  const char* limit = std::getenv("NATIVE_TEST_LIMIT_S");
  const unsigned limit_s = limit != nullptr ? static_cast<unsigned>(std::atoi(limit)) : 120;
  std::set_terminate(terminated);
  std::signal(SIGALRM, hung);
  int passed = 0, failed = 0, skipped = 0;
  for (const check::Test& test : check::tests()) {
    if (test.name.find(wanted) == std::string::npos) continue;
    under_way = test.name;
    ::alarm(limit_s);
    const auto began = std::chrono::steady_clock::now();
    try {
      test.body();
      ++passed;
    } catch (const check::Skipped& why) {
      ++skipped;
      std::printf("SKIPPED %s\n  %s\n", test.name.c_str(), why.what());
    } catch (const std::exception& error) {
      ++failed;
      std::printf("FAILED %s\n  %s\n", test.name.c_str(), error.what());
    }
    ::alarm(0);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
    if (seconds > 5) std::printf("slow, %.0f s: %s\n", seconds, test.name.c_str());
    std::fflush(stdout);
  }
  std::printf("native: %d passed, %d failed, %d skipped\n", passed, failed, skipped);
  return failed != 0 ? 1 : passed + skipped == 0 ? 2 : 0;
}
