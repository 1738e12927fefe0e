
#if DSP
static inline uint32_t load4(const int8_t *p) {
  uint32_t word;
  memcpy(&word, p, 4);
  return word;
}
#define EVEN(word) __sxtb16(word)
#define ODD(word) __sxtb16(__ror(word, 8))
#endif
