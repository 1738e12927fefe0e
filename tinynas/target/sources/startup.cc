// Reset of a bare Cortex-M under qemu: FPU on where there is one, memory laid out, constructors run, main's result handed to qemu.
// C and C++ at once: firmware folders are of either.
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif
extern uint32_t _stack_top, _data_start, _data_end, _data_load, _bss_start, _bss_end;
typedef void (*Vector)(void);
extern Vector __init_array_start[], __init_array_end[];
void initialise_monitor_handles(void);  // newlib's semihosting: opens stdout
int main(void);
void Reset_Handler(void);
void Fault_Handler(void);
void SysTick_Handler(void);
void _init(void);
void _fini(void);
#ifdef __cplusplus
}
extern "C" {
void* __dso_handle = nullptr;  // of a program without shared libraries
#endif

void _init(void) {}
void _fini(void) {}
volatile uint32_t tinynas_wraps = 0;  // how often SysTick has counted to zero

// Semihosting call SYS_EXIT_EXTENDED (0x20): ends the emulator with `status`.
__attribute__((noreturn)) static void ExitEmulator(uint32_t status) {
  volatile uint32_t block[2] = {0x20026u, status};  // ADP_Stopped_ApplicationExit
  // Older cores than ARMv8-M know the same call.
  register uint32_t r0 __asm__("r0") = 0x20u;
  register volatile uint32_t* r1 __asm__("r1") = block;
  __asm__ volatile("bkpt 0xab" : : "r"(r0), "r"(r1) : "memory");
  for (;;) {
  }
}

__attribute__((section(".vectors"), used)) const Vector vectors[16] = {
    (Vector)&_stack_top, Reset_Handler, Fault_Handler, Fault_Handler, Fault_Handler, Fault_Handler, Fault_Handler, 0,
    0, 0, 0, Fault_Handler, Fault_Handler, 0, Fault_Handler, SysTick_Handler};

void SysTick_Handler(void) { tinynas_wraps = tinynas_wraps + 1; }

void Fault_Handler(void) { ExitEmulator(70); }

void Reset_Handler(void) {
#ifdef __ARM_FP  // the compiler may use the FPU
  *(volatile uint32_t*)0xE000ED88u |= 0xFu << 20;  // CPACR: full access to the FPU
#endif
  __asm__ volatile("dsb\n isb");
  memcpy(&_data_start, &_data_load, (uintptr_t)&_data_end - (uintptr_t)&_data_start);
  memset(&_bss_start, 0, (uintptr_t)&_bss_end - (uintptr_t)&_bss_start);
  initialise_monitor_handles();
  for (Vector* constructor = __init_array_start; constructor < __init_array_end; ++constructor) (*constructor)();
  ExitEmulator((uint32_t)main());
}

#ifdef __cplusplus
}  // extern "C"
#endif
