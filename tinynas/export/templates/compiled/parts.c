
/* A weight of few bits: `place` is what lies above it in a word whose lowest byte holds it. */
#define SIGNED(byte, place, bits) ((int32_t)((uint32_t)(uint8_t)(byte) << (place)) >> (32 - (bits)))

/* A weight of each of two channels, and a number of each pixel. */
#define ONE(place, bits, at)                                                                  \
  do {                                                                                        \
    const int32_t p_ = SIGNED(*w0, place, bits), q_ = SIGNED(*w1, place, bits), s_ = *(at);   \
    a0 += s_ * p_;                                                                            \
    a1 += s_ * q_;                                                                            \
    const int32_t t_ = (at)[step];                                                            \
    b0 += t_ * p_;                                                                            \
    b1 += t_ * q_;                                                                            \
  } while (0)

#if MVE
/* Four weights out of each word of two channels, in the same bits of its bytes, and four numbers of each pixel. */
#define PART(left, mask, at)                                                                  \
  do {                                                                                        \
    const int8x16_t high_ = vdupq_n_s8((int8_t)(mask));                                       \
    const int8x16_t u_ = vandq_s8(vshlq_n_s8(u, left), high_), v_ = vandq_s8(vshlq_n_s8(v, left), high_); \
    const int8x16_t s_ = vldrbq_gather_offset_z_s8(at, places, lanes);                        \
    a0 = vmladavaq_s8(a0, s_, u_);                                                            \
    a1 = vmladavaq_s8(a1, s_, v_);                                                            \
    const int8x16_t t_ = vldrbq_gather_offset_z_s8((at) + step, places, lanes);               \
    b0 = vmladavaq_s8(b0, t_, u_);                                                            \
    b1 = vmladavaq_s8(b1, t_, v_);                                                            \
  } while (0)
#elif DSP
/* Weights 0 and 2, and 1 and 3, of each of two channels, in the highest bits of bytes 0 and 2 of a word; four numbers of each pixel. */
#define FOUR(u02, u13, v02, v13, at)                                                          \
  do {                                                                                        \
    const uint32_t s_ = load4(at);                                                            \
    const int32_t ue_ = u02, uo_ = u13, ve_ = v02, vo_ = v13, se_ = EVEN(s_), so_ = ODD(s_);  \
    a0 = __smlad(so_, uo_, __smlad(se_, ue_, a0));                                            \
    a1 = __smlad(so_, vo_, __smlad(se_, ve_, a1));                                            \
    const uint32_t t_ = load4((at) + step);                                                   \
    const int32_t te_ = EVEN(t_), to_ = ODD(t_);                                              \
    b0 = __smlad(to_, uo_, __smlad(te_, ue_, b0));                                            \
    b1 = __smlad(to_, vo_, __smlad(te_, ve_, b1));                                            \
  } while (0)
#define PART(left, mask, at)                                                                  \
  do {                                                                                        \
    const uint32_t u_ = (u << (left)) & ((mask) * 0x01010101u), v_ = (v << (left)) & ((mask) * 0x01010101u); \
    FOUR(EVEN(u_), ODD(u_), EVEN(v_), ODD(v_), at);                                           \
  } while (0)
#endif
