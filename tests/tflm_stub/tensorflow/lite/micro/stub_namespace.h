// Older interpreters keep the C types global and the rest in tflite; newer ones keep all in tflite::micro.
#ifndef STUB_NAMESPACE_H_
#define STUB_NAMESPACE_H_

#if STUB_NEW_NAMESPACE
#define STUB_TYPES_BEGIN namespace tflite { namespace micro {
#define STUB_TYPES_END } }
#define STUB_BEGIN namespace tflite { namespace micro {
#define STUB_END } }
#else
#define STUB_TYPES_BEGIN
#define STUB_TYPES_END
#define STUB_BEGIN namespace tflite {
#define STUB_END }
#endif

#endif
