const uint8_t *@ns@_heard_frame(int frame) { return ear.ring + (ear.next + frame) % @GUARD@_FRAMES * @GUARD@_FEATURES; }

/* Where the frame goes that is heard now. */
static uint8_t *newest(void) { return ear.ring + ear.next * @GUARD@_FEATURES; }

/* The frame is there: 1 where the network answered. */
static int thought(void) {
  ear.next = (ear.next + 1) % @GUARD@_FRAMES;
  if (++ear.frames < @GUARD@_FRAMES) return 0;
  ear.frames -= @GUARD@_HOP < @GUARD@_FRAMES ? @GUARD@_HOP : @GUARD@_FRAMES;
  return @ns@_think(ear.ring, (int)ear.next);
}
