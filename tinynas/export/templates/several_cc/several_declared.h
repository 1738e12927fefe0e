
// 1 for each class that must be there.
extern const uint8_t kSelfTestThere[@self_test_images@][kClasses];
