
/* A row of a tensor, so many before the newest one. */
static int8_t *row_before(@name@_t *m, uint32_t tensor, uint32_t back) {
  const place_t *p = &places[tensor];
  return (int8_t *)m->area + p->offset + (m->next[tensor] + 2u * p->rows - 1u - back) % p->rows * p->pitch;
}

/* Where the next row of a tensor goes. */
static int8_t *row_next(@name@_t *m, uint32_t tensor) {
  return (int8_t *)m->area + places[tensor].offset + m->next[tensor] * places[tensor].pitch;
}

static void arrived(@name@_t *m, uint32_t tensor) {
  m->next[tensor] = (@counter_type@)(m->next[tensor] + 1u < places[tensor].rows ? m->next[tensor] + 1u : 0u);
  m->came[tensor] = 1;
}

static void step(@name@_t *m, const op_t *o, uint32_t wait) {
  const int8_t *rows[@most_rows@];
  int8_t *y = row_next(m, o->output);
  int8_t *scratch = (int8_t *)m->area + o->scratch;
  (void)scratch;
  (void)wait;
  for (uint32_t i = 0; i < o->window; ++i) rows[i] = row_before(m, o->input, @row@);
  switch (o->kind) {
@cases@
  }
}

/* For measuring: a function of the program's own around each step. */
#ifdef @UPPER@_TRACE
void @name@_trace(int op, int ends);
#define TRACE(op, ends) @name@_trace(op, ends)
#else
#define TRACE(op, ends)
#endif

#define OPERATORS (sizeof operators / sizeof operators[0])

void @name@_reset(@name@_t *m) {
  memset(m, 0, sizeof *m);
  for (uint32_t i = 0; i < OPERATORS; ++i) {
    const op_t *o = &operators[i];
    const place_t *p = &places[o->input];
    memset((int8_t *)m->area + p->offset, o->zero_in, p->rows * p->pitch); /* as padding: zeros */
    m->wait[i] = (@counter_type@)o->steps;
    if (o->kind == MEAN) {
      int32_t *sums = m->area + o->scratch / 4u + 1;
      for (uint32_t c = 0; c < o->out_c; ++c) sums[c] = o->numbers[1];
    }
  }
}

int @name@_step(@name@_t *m, const uint8_t *row) {
  memset(m->came, 0, sizeof m->came);
  int8_t *to = row_next(m, @input@);
  for (uint32_t i = 0; i < @UPPER@_WIDTH * @UPPER@_CHANNELS; ++i) to[i] = (int8_t)(row[i] ^ 0x80);
  arrived(m, @input@);
  for (uint32_t i = 0; i < OPERATORS; ++i) {
    const op_t *o = &operators[i];
    if (!m->came[o->input] || (o->in2_h > 0 && !m->came[o->input2])) continue;
    const uint32_t wait = m->wait[i] - 1u;
    m->wait[i] = (@counter_type@)wait;
    if (wait == 0 || o->each) {
      TRACE((int)i, 0);
      step(m, o, wait);
      TRACE((int)i, 1);
    }
    if (wait > 0) continue;
    m->wait[i] = o->advance;
    arrived(m, o->output);
  }
  return (int)m->came[@logits@];
}

const int8_t *@name@_result(const @name@_t *m) { return (const int8_t *)m->area + @result@; }
