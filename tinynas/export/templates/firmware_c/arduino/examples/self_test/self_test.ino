// @banner@
// Flash this first: it proves that the board computes what the model file computes. Its last line must be
// "@self_test_pass@".
#include <@arduino_name@.h>

static void print(const char *line) { Serial.println(line); }

void setup() {
  Serial.begin(9600);
  while (!Serial) {
  }
  @ns@_self_test(print);
}

void loop() {}
