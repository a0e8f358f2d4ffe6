// A handful of lines instead of a framework: a test is a function with a sentence for a name, CHECK says what was false.
#pragma once

#include <cstdio>
#include <functional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace check {

/// Thrown by a test of what this machine lacks.
struct Skipped : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Test {
  std::string name;
  std::function<void()> body;
};

inline std::vector<Test>& tests() {
  static std::vector<Test> all;
  return all;
}

struct Register {
  Register(const char* name, std::function<void()> body, bool first) {
    tests().insert(first ? tests().begin() : tests().end(), {name, std::move(body)});
  }
};

template <typename A, typename B>
void equal(const A& left, const B& right, const char* text, int line) {
  if (left == right) return;
  std::ostringstream message;
  message << "line " << line << ": " << text << ": " << left << " != " << right;
  throw std::runtime_error(message.str());
}

inline void that(bool condition, const char* text, int line) {
  if (!condition) throw std::runtime_error("line " + std::to_string(line) + ": not true: " + text);
}

}  // namespace check

#define JOIN2(a, b) a##b
#define JOIN(a, b) JOIN2(a, b)
#define TEST_AS(function, test_name, first)                                     \
  static void function();                                                       \
  static const check::Register JOIN(function, _is)(test_name, function, first); \
  static void function()
#define TEST(name) TEST_AS(JOIN(test_, __COUNTER__), name, false)
// Runs before the others: the thread sanitizer follows threads of a forked child only while the parent has none, and some tests
// leave a server behind for the next.
#define TEST_THAT_FORKS(name) TEST_AS(JOIN(test_, __COUNTER__), name, true)
#define CHECK(condition) check::that((condition), #condition, __LINE__)
#define CHECK_EQUAL(a, b) check::equal((a), (b), #a " == " #b, __LINE__)
