// @banner@
// A microphone with I2S (INMP441, SPH0645 and others) on an ESP32, by the library ESP_I2S of Arduino's core for it, 3.0 or newer.
// Its 24 bits come in words of 32: the upper 16 are taken, a little louder.
#include <@arduino_name@.h>
#include <ESP_I2S.h>

static const int kClock = 14, kSelect = 15, kData = 32;  // the pins that SCK, WS and SD are wired to
static I2SClass microphone;

void setup() {
  Serial.begin(9600);
@sketch_setup@  @ns@_hear_start();
  microphone.setPins(kClock, kSelect, -1, kData);
  if (!microphone.begin(I2S_MODE_STD, @sample_rate@, I2S_DATA_BIT_WIDTH_32BIT, I2S_SLOT_MODE_MONO, I2S_STD_SLOT_LEFT)) {
    Serial.println("no microphone");
    for (;;) {
    }
  }
}

void loop() {
  static int32_t words[256];
  int16_t samples[256];
  const int count = static_cast<int>(microphone.readBytes(reinterpret_cast<char *>(words), sizeof words) / sizeof words[0]);
  for (int i = 0; i < count; ++i) {
    const int32_t loud = words[i] >> 14;
    samples[i] = static_cast<int16_t>(loud > 32767 ? 32767 : loud < -32768 ? -32768 : loud);
  }
  const int found = @ns@_hear(samples, count);
  if (found >= 0) {
    Serial.print(@sketch_labels@[found]);
    Serial.print(" ");
    Serial.println(@ns@_score(found));
@several_told@  }
}
