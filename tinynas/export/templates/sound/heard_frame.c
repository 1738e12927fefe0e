const uint8_t *@ns@_heard_frame(void) { return ear.frame; }

/* Where the frame goes that is heard now. */
static uint8_t *newest(void) { return ear.frame; }

/* The frame is there: 1 where the network answered. */
static int thought(void) { return @ns@_think(ear.frame); }
