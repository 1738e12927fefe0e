/* @threshold_why@ */
#ifndef @GUARD@_THRESHOLDS
#define @GUARD@_THRESHOLDS {@threshold_values@}
#endif
