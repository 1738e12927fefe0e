// Reset of a bare Cortex-M under qemu: FPU on where there is one, memory laid out, constructors run, main's result handed to qemu.
#include <stdint.h>
#include <string.h>

extern "C" {
extern uint32_t _stack_top, _data_start, _data_end, _data_load, _bss_start, _bss_end;
using Constructor = void (*)();
extern Constructor __init_array_start[], __init_array_end[];
void initialise_monitor_handles();  // newlib's semihosting: opens stdout
int main();
void Reset_Handler();
void Fault_Handler();
void SysTick_Handler();
void* __dso_handle = nullptr;  // of a program without shared libraries
void _init() {}
void _fini() {}
}

extern "C" {
volatile uint32_t tinynas_wraps = 0;  // how often SysTick has counted to zero
}

namespace {

// Semihosting call SYS_EXIT_EXTENDED (0x20): ends the emulator with `status`.
[[noreturn]] void ExitEmulator(uint32_t status) {
  volatile uint32_t block[2] = {0x20026u, status};  // ADP_Stopped_ApplicationExit
  // Older cores than ARMv8-M know the same call.
  register uint32_t r0 asm("r0") = 0x20u;
  register volatile uint32_t* r1 asm("r1") = block;
  asm volatile("bkpt 0xab" : : "r"(r0), "r"(r1) : "memory");
  for (;;) {
  }
}

using Vector = void (*)();

}  // namespace

extern "C" {

__attribute__((section(".vectors"), used)) const Vector vectors[16] = {
    reinterpret_cast<Vector>(&_stack_top), Reset_Handler, Fault_Handler, Fault_Handler, Fault_Handler, Fault_Handler, Fault_Handler, nullptr,
    nullptr, nullptr, nullptr, Fault_Handler, Fault_Handler, nullptr, Fault_Handler, SysTick_Handler};

void SysTick_Handler() { tinynas_wraps = tinynas_wraps + 1; }

void Fault_Handler() { ExitEmulator(70); }

void Reset_Handler() {
#ifdef __ARM_FP  // the compiler may use the FPU
  *reinterpret_cast<volatile uint32_t*>(0xE000ED88u) |= 0xFu << 20;  // CPACR: full access to the FPU
#endif
  asm volatile("dsb\n isb");
  memcpy(&_data_start, &_data_load, reinterpret_cast<uintptr_t>(&_data_end) - reinterpret_cast<uintptr_t>(&_data_start));
  memset(&_bss_start, 0, reinterpret_cast<uintptr_t>(&_bss_end) - reinterpret_cast<uintptr_t>(&_bss_start));
  initialise_monitor_handles();
  for (Constructor* constructor = __init_array_start; constructor < __init_array_end; ++constructor) (*constructor)();
  ExitEmulator(static_cast<uint32_t>(main()));
}

}  // extern "C"
