
#if DSP && !MVE
static inline uint32_t load4(const int8_t *p) {
  uint32_t word;
  memcpy(&word, p, 4);
  return word;
}
/* Bytes 0 and 2 of a word as two numbers of 16 bits, and bytes 1 and 3: in one instruction, which compilers do not find. */
static inline int32_t even(uint32_t word) {
  int32_t pair;
  __asm__("sxtb16 %0, %1" : "=r"(pair) : "r"(word));
  return pair;
}
static inline int32_t odd(uint32_t word) {
  int32_t pair;
  __asm__("sxtb16 %0, %1, ror #8" : "=r"(pair) : "r"(word));
  return pair;
}
#define EVEN(word) even(word)
#define ODD(word) odd(word)
#endif
