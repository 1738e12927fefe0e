/* Frames from one inference to the next: each of them answers for the @GUARD@_FRAMES frames of a clip. */
#ifndef @GUARD@_HOP
#define @GUARD@_HOP @hop@
#endif
