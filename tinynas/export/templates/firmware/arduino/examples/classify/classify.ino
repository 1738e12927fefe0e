// @banner@
// Replace the gray frame by your camera's. TFLM comes with the library @arduino_tflm@. For another one, include its header before this line.
#include <@arduino_name@.h>

static uint8_t frame_buffer[160 * 120 * 2];  // RGB565, as most camera modules send it

void setup() {
  Serial.begin(9600);  // TFLM's log for Arduino sets this rate itself
  while (!Serial) {
  }
  if (!@ns@::Setup()) {
    Serial.println("the model could not be set up: see the log");
    for (;;) {
    }
  }
  // Milliseconds of an inference, the mean of three, as a CSV that tinynas reads: `latency: mine.csv` in a budget, beside the model file.
  const unsigned long start = micros();
  for (int i = 0; i < 3; ++i) @ns@::Invoke();
  const unsigned long stop = micros();
  Serial.println("net,ms");
  Serial.print("@model_file@,");
  Serial.println(static_cast<float>(stop - start) / 3000.0f, 3);
}

void loop() {
  // Camera.readFrame(frame_buffer);
  const @ns@::Frame frame = {frame_buffer, 160, 120, @ns@::PixelFormat::kRgb565BigEndian, 0};
  const int found = @ns@::Classify(frame);
  if (found >= 0) {
    Serial.print(@ns@::kLabels[found]);
    Serial.print(" ");
    Serial.println(@ns@::Probability(found));
  }
@several_sketch@  delay(1000);
}
