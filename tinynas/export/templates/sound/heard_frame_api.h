/* What classifier.c gives: the network takes a frame (@GUARD@_FEATURES bytes); 1 where there are new outputs. */
int @ns@_think(const uint8_t *frame);
/* The network begins in silence. */
void @ns@_forget(void);
@told_level@
/* The bytes of the newest frame. For tests and recordings. */
const uint8_t *@ns@_heard_frame(void);
