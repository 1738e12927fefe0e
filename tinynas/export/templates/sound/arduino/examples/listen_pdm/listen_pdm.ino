// @banner@
// A digital microphone (PDM) as on the Nano 33 BLE Sense, Nicla and Portenta Vision Shield: the core's own library PDM reads it.
#include <@arduino_name@.h>
#include <PDM.h>

#if @sample_rate@ != 16000
#warning "many boards' PDM libraries sample at 16,000 a second alone; this network wants @sample_rate@"
#endif

static int16_t samples[512];
static volatile int waiting = 0;  // samples that the driver has put there

static void on_sound() {
  const int bytes = PDM.available();
  PDM.read(samples, bytes < static_cast<int>(sizeof samples) ? bytes : static_cast<int>(sizeof samples));
  waiting = (bytes < static_cast<int>(sizeof samples) ? bytes : static_cast<int>(sizeof samples)) / 2;
}

void setup() {
  Serial.begin(9600);
@sketch_setup@  @ns@_hear_start();
  PDM.onReceive(on_sound);
  if (!PDM.begin(1, @sample_rate@)) {
    Serial.println("no microphone");
    for (;;) {
    }
  }
}

void loop() {
  if (waiting == 0) return;
  int16_t heard[512];
  noInterrupts();
  const int count = waiting;
  memcpy(heard, samples, static_cast<size_t>(count) * sizeof heard[0]);
  waiting = 0;
  interrupts();
  const int found = @ns@_hear(heard, count);
  if (found >= 0) {
    Serial.print(@sketch_labels@[found]);
    Serial.print(" ");
    Serial.println(@ns@_score(found));
@several_told@  }
}
