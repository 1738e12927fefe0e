// Headers for the interpreter inside the tflite-micro Python wheel: its shared library exports the C++ symbols, and
// these declarations match them (checked at run time by the size and type of the input tensor).
#ifndef WHEEL_SCHEMA_GENERATED_H_
#define WHEEL_SCHEMA_GENERATED_H_

#include <stdint.h>
#include <string.h>

namespace tflite {
struct Model;
inline const Model* GetModel(const void* data) {  // the root of a flatbuffer: its first four bytes say where it is
  uint32_t offset;
  memcpy(&offset, data, sizeof offset);
  return reinterpret_cast<const Model*>(static_cast<const char*>(data) + offset);
}
}  // namespace tflite

#endif
