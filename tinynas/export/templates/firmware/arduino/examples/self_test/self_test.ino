// @banner@
// Flash this first: it proves that the board computes what the model file computes. Its last line must be
// "@self_test_pass@".
// TFLM comes with the library @arduino_tflm@. For another one, include its header before this line.
#include <@arduino_name@.h>

void setup() {
  Serial.begin(9600);  // TFLM's log for Arduino sets this rate itself
  while (!Serial) {
  }
  // The log has said so too; where it is stripped, or goes elsewhere, this is all there is to see.
  Serial.println(@ns@::SelfTest() ? "@self_test_pass@" : "@self_test_fail@");
}

void loop() {}
