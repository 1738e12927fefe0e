extern const int8_t @ns@_self_test_later[@GUARD@_CLASSES];
