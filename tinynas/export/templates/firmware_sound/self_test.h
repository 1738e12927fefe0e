// @banner@
// Proof that this firmware hears what the network was made to hear: a stored sound, repeated for a clip, goes through the whole path
// (front end, ring, interpreter); every byte of its frames and every output byte is compared with those on the host.
//
// Costs about @self_test_bytes@ bytes of flash; a linker drops it where SelfTest is not called.
#ifndef @GUARD@_SELF_TEST_H_
#define @GUARD@_SELF_TEST_H_

namespace @ns@ {

// Largest difference that passes, in output steps. TFLM's reference and CMSIS-NN kernels are equal bit for bit;
// other kernels (ESP-NN, vendors' accelerators) may round differently: then allow 1.
#ifndef @GUARD@_SELF_TEST_TOLERANCE
#define @GUARD@_SELF_TEST_TOLERANCE @self_test_tolerance@
#endif

// Logs some lines. Calls Setup itself; what was heard before is forgotten.
bool SelfTest();

}  // namespace @ns@

#endif  // @GUARD@_SELF_TEST_H_
