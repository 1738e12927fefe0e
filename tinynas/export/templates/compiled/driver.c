
/* Rows of an input that are there. */
static uint32_t there(const @name@_t *m, uint32_t source) { return source == OUTSIDE ? m->rows : m->done[source]; }

static int ready(const @name@_t *m, const op_t *o, uint32_t at) {
  if (at == o->steps) return 0;
  uint32_t behind = place_of(o, at) + @spanned@ - o->above;
  if (behind > o->in_h) behind = o->in_h;
  if (there(m, o->source) < behind) return 0;
  return o->in2_h == 0 || there(m, o->source2) > (at < o->in2_h ? at : o->in2_h - 1u);
}

static void step(@name@_t *m, const op_t *o, uint32_t at) {
  const int8_t *rows[@most_rows@];
  const uint32_t out = o->each > 1 ? at / o->each : at;
  int8_t *y = row_of(m, o->output, out);
  int8_t *scratch = (int8_t *)m->area + o->scratch;
  for (uint32_t i = 0; i < o->window; ++i) {
    const uint32_t line = place_of(o, at) + @row@ - o->above; /* above the map it is a large number */
    rows[i] = line < o->in_h ? row_of(m, o->input, line) : NULL;
  }
  switch (o->kind) {
@cases@
  }
}

/* For measuring: a function of the program's own around each step. */
#ifdef @UPPER@_TRACE
void @name@_trace(int op, int ends);
#define TRACE(op, ends) @name@_trace((int)((op) - operators), ends)
#else
#define TRACE(op, ends)
#endif

/* As long as an operator of the segment has what it reads, the deepest of these computes a row. */
static APART void advance(@name@_t *m) {
  const op_t *ops = &operators[segments[m->segment].first];
  const uint32_t count = segments[m->segment].count;
  for (uint32_t i = count; i-- > 0;) {@done@
    if (!ready(m, &ops[i], m->at[i])) continue;
    TRACE(ops + i, 0);
    step(m, &ops[i], m->at[i]);
    TRACE(ops + i, 1);
    ++m->at[i];
    if (ops[i].each == 1 || m->at[i] % ops[i].each == 0) ++m->done[i];
    i = count;
  }
}

static void begin(@name@_t *m, uint32_t segment) {
  memset(m->at, 0, sizeof m->at);
  memset(m->done, 0, sizeof m->done);
  m->segment = (uint8_t)segment;
}

/* All segments from `segment` on. Their inputs are there, but are taken row by row: of two branches none runs ahead of the other. */
static void finish(@name@_t *m, uint32_t segment) {
  for (; segment < sizeof segments / sizeof segments[0]; ++segment) {
    begin(m, segment);
    for (uint32_t y = 0; y < operators[segments[segment].first].in_h; ++y) {
      m->rows = (@counter_type@)(y + 1u);
      advance(m);
    }
  }
  m->rows = (@counter_type@)~0u;
}

void @name@_init(@name@_t *m) {
  begin(m, 0);
  m->rows = 0;
}

const int8_t *@name@_result(const @name@_t *m) { return (const int8_t *)m->area + @result@; }
