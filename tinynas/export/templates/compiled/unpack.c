
/* A block of a depthwise convolution's weights a byte each: `count` of them, of few bits, which lie as in the rows of a matrix product.
   Once a row of the output, so that its windows read bytes. */
static APART const int8_t *unpacked(const int8_t *from, uint32_t count, uint32_t bits, int8_t *const block) {
  const uint32_t low = 0x01010101u * ((1u << bits) - 1u), sign = 0x01010101u << (bits - 1u), above = (1u << (9u - bits)) - 2u;
  int8_t *to = block;
  for (; count * bits >= 32; count -= 32 / bits, from += 4) {
    uint32_t word;
    memcpy(&word, from, 4);
    for (uint32_t part = 0; part < 8; part += bits, word >>= bits, to += 4) {
      const uint32_t four = (word & low) + (word & sign) * above; /* a sign's bit, and those above it */
      memcpy(to, &four, 4);
    }
  }
  for (uint32_t place = 32 - bits; count > 0; --count) {
    *to++ = (int8_t)((int32_t)((uint32_t)(uint8_t)*from << place) >> (32 - bits));
    place -= bits;
    if (place < 24) ++from, place = 32 - bits;
  }
  return block;
}
