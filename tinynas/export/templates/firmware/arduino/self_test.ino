// @banner@
// Flash this first: it proves that the board computes what the model file computes.
// TFLM for Arduino: use the header of the library you installed (TensorFlowLite.h, Chirale_TensorFlowLite.h, ...).
#include <TensorFlowLite.h>

#include <@arduino_name@.h>

void setup() {
  Serial.begin(115200);
  while (!Serial) {
  }
  Serial.println(@ns@::SelfTest() ? "PASS" : "FAIL");
}

void loop() {}
