# @hash_banner@
# Bare-metal Cortex-M4F as qemu's machine mps2-an386 has it; printf and the exit status go through semihosting.
set(CMAKE_SYSTEM_NAME Generic)
set(CMAKE_SYSTEM_PROCESSOR cortex-m4)
set(CMAKE_CXX_COMPILER arm-none-eabi-g++)
set(CMAKE_C_COMPILER arm-none-eabi-gcc)
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
set(CMAKE_@language@_FLAGS_INIT "@emulated_flags@@language_flags@")
set(CMAKE_EXE_LINKER_FLAGS_INIT "-nostartfiles --specs=rdimon.specs -T${CMAKE_CURRENT_LIST_DIR}/mps2_an386.ld -Wl,--gc-sections")
set(BOARD_SOURCES ${CMAKE_CURRENT_LIST_DIR}/startup.@suffix@)
set(CMAKE_CROSSCOMPILING_EMULATOR
    @emulator@)
