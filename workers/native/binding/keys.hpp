// A configuration dictionary: each key is taken once, what is left over is a mistake.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <string>
#include <utility>

#include "kernel/error.hpp"

namespace uffd {

namespace nb = nanobind;

class Keys {
 public:
  Keys(nb::dict dict, std::string of) : left_(nb::steal<nb::dict>(PyDict_Copy(dict.ptr()))), of_(std::move(of)) {}
  template <typename T>
  void take(const char* key, T& into) {
    if (!left_.contains(key)) return;
    try {
      into = nb::cast<T>(left_[key]);
    } catch (const nb::cast_error&) {
      throw ConfigError(of_ + "." + key + " has a value of the wrong type: " + nb::repr(left_[key]).c_str());
    }
    nb::del(left_[key]);
  }
  bool contains(const char* key) const { return left_.contains(key); }
  nb::object pop(const char* key) {
    nb::object value = nb::borrow(left_[key]);
    nb::del(left_[key]);
    return value;
  }
  void finish() const {
    if (left_.size() != 0) throw ConfigError(of_ + " has unknown keys: " + nb::repr(left_.keys()).c_str());
  }

 private:
  nb::dict left_;
  std::string of_;
};

}  // namespace uffd
