static const int16_t thresholds[@GUARD@_CLASSES] = @GUARD@_THRESHOLDS;
