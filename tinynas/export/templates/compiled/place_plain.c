
/* The row behind those above the map at which a step begins to read. */
static uint32_t place_of(const op_t *o, uint32_t at) { return at * o->advance; }
