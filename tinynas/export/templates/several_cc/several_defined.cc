
// 1 for each class that must be there.
const uint8_t kSelfTestThere[@self_test_images@][kClasses] = {
@self_test_there@
};
