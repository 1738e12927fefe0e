// @banner@
// Replace the gray frame by your camera's.
#include <@arduino_name@.h>

@sketch_buffer@
void setup() {
  Serial.begin(9600);
  while (!Serial) {
  }
}

void loop() {
@sketch_classify@
  if (found >= 0) {
    Serial.print(@ns@_labels[found]);
    Serial.print(" ");
    Serial.println(@ns@_probability(found));
  }
@several_sketch@  // Milliseconds of a frame, image converter included. The time of the network alone hangs on no value of the input.
  Serial.print("ms ");
  Serial.println(static_cast<float>(micros() - start) / 1000.0f, 3);
  delay(1000);
}
