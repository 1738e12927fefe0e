
/* The row behind those above the map at which a step begins to read. */
static uint32_t place_of(const op_t *o, uint32_t at) {
  return o->advance == 0 ? at * (uint32_t)o->numbers[0] >> 16 : at * o->advance;
}
