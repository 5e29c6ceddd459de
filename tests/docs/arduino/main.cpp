// Runs the sketch of docs/iot.md once: publishes argv[1] under the key argv[2]. Ends with 0 when it says that it did.
#include "Arduino.h"

static const char* TOKEN = std::getenv("TOKEN");

#include "sketch.h"

int main(int, char** argv) { return publish(argv[1], argv[2]) ? 0 : 1; }
