// Runs every native test, or those whose name holds the first argument. Exit status 1 when one failed, 2 when none ran.
#include <cstdio>
#include <exception>

#include "check.hpp"

int main(int count, char** arguments) {
  const std::string wanted = count > 1 ? arguments[1] : "";
  int passed = 0, failed = 0;
  for (const check::Test& test : check::tests()) {
    if (test.name.find(wanted) == std::string::npos) continue;
    try {
      test.body();
      ++passed;
    } catch (const std::exception& error) {
      ++failed;
      std::printf("FAILED %s\n  %s\n", test.name.c_str(), error.what());
    }
  }
  std::printf("native: %d passed, %d failed\n", passed, failed);
  return failed != 0 ? 1 : passed == 0 ? 2 : 0;
}
