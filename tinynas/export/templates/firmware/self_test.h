// @banner@
// Proof that this firmware computes what the model file computes: two stored images go through the whole path
// (quantizer, interpreter) and every output byte is compared with the one TFLM's kernels gave on the host.
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

// Runs both images and logs one line each. Calls Setup itself.
bool SelfTest();

}  // namespace @ns@

#endif  // @GUARD@_SELF_TEST_H_
