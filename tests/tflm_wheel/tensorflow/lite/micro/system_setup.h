#ifndef WHEEL_SYSTEM_SETUP_H_
#define WHEEL_SYSTEM_SETUP_H_

namespace tflite {
namespace micro {
inline void InitializeTarget() {}
}  // namespace micro
}  // namespace tflite

#endif
