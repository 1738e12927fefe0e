  uint8_t frame[@GUARD@_FEATURES]; /* the newest one */
