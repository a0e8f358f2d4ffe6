// Runs every native test, or those whose name holds the first argument. Exit status 1 when one failed, 2 when none ran, 3 when
// one hung: its name is printed, and the program ends there and then with its threads as they are.
#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <thread>

#include "check.hpp"

namespace {

/// Ends the program when one test takes longer than `limit`.
class Deadline {
 public:
  explicit Deadline(std::chrono::seconds limit) : limit_(limit), thread_([this] { watch(); }) {}
  ~Deadline() {
    {
      const std::lock_guard lock(mutex_);
      over_ = true;
    }
    changed_.notify_one();
    thread_.join();
  }
  void begin(const std::string& name) {
    const std::lock_guard lock(mutex_);
    name_ = name;
    began_ = std::chrono::steady_clock::now();
  }

 private:
  void watch() {
    std::unique_lock lock(mutex_);
    while (!over_) {
      if (!name_.empty() && std::chrono::steady_clock::now() - began_ > limit_) {
        std::printf("HUNG %s: not over after %lld s\n", name_.c_str(), static_cast<long long>(limit_.count()));
        std::fflush(stdout);
        ::_exit(3);
      }
      changed_.wait_for(lock, std::chrono::seconds(1));
    }
  }

  const std::chrono::seconds limit_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::string name_;
  std::chrono::steady_clock::time_point began_;
  bool over_ = false;
  std::thread thread_;
};

std::string under_way;  // for a test that ends the program

[[noreturn]] void say_which() {
  std::printf("ENDED THE PROGRAM %s\n", under_way.c_str());
  std::fflush(stdout);
  std::abort();
}

}  // namespace

int main(int count, char** arguments) {
  const std::string wanted = count > 1 ? arguments[1] : "";
  const char* limit = std::getenv("NATIVE_TEST_LIMIT_S");
  std::set_terminate(say_which);
  int passed = 0, failed = 0;
  Deadline deadline(std::chrono::seconds(limit != nullptr ? std::atoi(limit) : 120));
  for (const check::Test& test : check::tests()) {
    if (test.name.find(wanted) == std::string::npos) continue;
    deadline.begin(under_way = test.name);
    const auto began = std::chrono::steady_clock::now();
    try {
      test.body();
      ++passed;
    } catch (const std::exception& error) {
      ++failed;
      std::printf("FAILED %s\n  %s\n", test.name.c_str(), error.what());
    }
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
    if (seconds > 5) std::printf("slow, %.0f s: %s\n", seconds, test.name.c_str());
    std::fflush(stdout);
  }
  std::printf("native: %d passed, %d failed\n", passed, failed);
  return failed != 0 ? 1 : passed == 0 ? 2 : 0;
}
