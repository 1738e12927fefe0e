
/* 1 for each class that must be there. */
extern const uint8_t @ns@_self_test_there[@self_test_images@][@GUARD@_CLASSES];
