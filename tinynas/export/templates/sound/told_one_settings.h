/* Percent that a class must reach on average to be told. */
#ifndef @GUARD@_THRESHOLD
#define @GUARD@_THRESHOLD @threshold@
#endif
/* Frames for which nothing is told after something was. */
#ifndef @GUARD@_REFRACTORY
#define @GUARD@_REFRACTORY @refractory@
#endif
