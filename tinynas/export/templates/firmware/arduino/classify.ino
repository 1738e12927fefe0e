// @banner@
// Replace the gray frame by your camera's. TFLM for Arduino: use the header of the library you installed.
#include <TensorFlowLite.h>

#include <@arduino_name@.h>

namespace model = @ns@;

static uint8_t frame_buffer[160 * 120 * 2];  // RGB565, as most camera modules send it

void setup() {
  Serial.begin(115200);
  while (!Serial) {
  }
  if (!model::Setup()) {
    Serial.println("the model could not be set up: see the log");
    for (;;) {
    }
  }
}

void loop() {
  // Camera.readFrame(frame_buffer);
  const model::Frame frame = {frame_buffer, 160, 120, model::PixelFormat::kRgb565BigEndian, 0};
  const int found = model::Classify(frame);
  if (found >= 0) {
    Serial.print(model::kLabels[found]);
    Serial.print(" ");
    Serial.println(model::Probability(found));
  }
  delay(1000);
}
