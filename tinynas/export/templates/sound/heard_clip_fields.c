  int32_t next;   /* frame of the ring that is written next: the oldest, once it is full */
  int32_t frames; /* that are new to the network, up to all of them */
  uint8_t ring[@GUARD@_FRAMES * @GUARD@_FEATURES];
