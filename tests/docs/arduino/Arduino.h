// What docs/iot.md's sketch uses of Arduino's language, for a computer: enough to compile it unchanged and to run it.
// Time goes twenty times as fast.
#pragma once
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <string>

class String : public std::string {
 public:
  using std::string::string;
  String(const std::string& text) : std::string(text) {}
};

using std::min;

inline long random(long low, long high) { return low + std::rand() % std::max(1L, high - low); }
inline void delay(unsigned long ms) { usleep(ms * 1000 / 20); }
