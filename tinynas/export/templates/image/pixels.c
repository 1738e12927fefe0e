typedef struct {
  uint32_t r, g, b;
} Rgb;

static uint32_t BytesPerPixel(PixelFormat format) {
  switch (format) {
    case @kRgb888@:
    case @kBgr888@:
      return 3;
    case @kRgb565LittleEndian@:
    case @kRgb565BigEndian@:
      return 2;
    case @kGray8@:
      return 1;
  }
  return 0;
}

static inline Rgb From565(uint32_t value) {
  // The high bits are repeated in the low ones, so that full scale stays full scale.
  const uint32_t r = value >> 11, g = (value >> 5) & 63u, b = value & 31u;
  const Rgb c = {(r << 3) | (r >> 2), (g << 2) | (g >> 4), (b << 3) | (b >> 2)};
  return c;
}

static inline Rgb ReadPixel(const uint8_t* p, PixelFormat format) {
  const Rgb gray = {p[0], p[0], p[0]};
  if (format == @kGray8@) return gray;
  if (format == @kRgb565LittleEndian@) return From565(p[0] | (@u32@(p[1]) << 8));
  if (format == @kRgb565BigEndian@) return From565(p[1] | (@u32@(p[0]) << 8));
  const Rgb rgb = {p[0], p[1], p[2]}, bgr = {p[2], p[1], p[0]};
  return format == @kRgb888@ ? rgb : bgr;
}

// ITU-R BT.601 luma in 15-bit fixed point: 0.299 R + 0.587 G + 0.114 B.
static inline uint32_t Luma(Rgb c) { return (9798u * c.r + 19235u * c.g + 3735u * c.b + 16384u) >> 15; }

// One direction of the resize: `full` pixels of the window, which starts at `start` in the frame, become `scaled`.
typedef struct {
  uint32_t start, full, scaled;
} Axis;

// The part of a frame that is resized, and how.
typedef struct {
  uint32_t step, stride;  // bytes from one pixel, and from one row, to the next
  Axis rows, columns;
  Resize resize;  // never kLikeTraining
} Window;

// round(a * b / c) with halves to even, for the size of the window.
static uint32_t RoundedRatio(uint32_t a, uint32_t b, uint32_t c) {
  uint64_t product = a;
  product *= b;
  const uint32_t quotient = @u32@(product / c);
  const uint64_t twice = 2 * (product % c);
  if (twice > c || (twice == c && (quotient & 1u))) return quotient + 1;
  return quotient;
}

// The largest centered window with the input's aspect ratio; false for what is no frame.
static bool FindWindow(int frame_width, int frame_height, PixelFormat format, int stride_bytes, Resize resize, Window* window) {
  const uint32_t step = BytesPerPixel(format);
  if (frame_width < 1 || frame_height < 1 || stride_bytes < 0 || step == 0) return false;
  if (frame_width > 65535 || frame_height > 65535) return false;
  const uint32_t width = @u32@(frame_width), height = @u32@(frame_height);
  const uint32_t stride = stride_bytes ? @u32@(stride_bytes) : width * step;
  if (stride < width * step || width * height > 16843009u) return false;  // 2^32 / 255: what a 32-bit sum of pixels can hold

  uint32_t window_height = RoundedRatio(width, kInputHeight, kInputWidth), window_width = RoundedRatio(height, kInputWidth, kInputHeight);
  window_height = window_height < 1 ? 1 : window_height > height ? height : window_height;
  window_width = window_width < 1 ? 1 : window_width > width ? width : window_width;
  const Axis rows = {(height - window_height) / 2, window_height, kInputHeight};
  const Axis columns = {(width - window_width) / 2, window_width, kInputWidth};
  window->step = step;
  window->stride = stride;
  window->rows = rows;
  window->columns = columns;
  if (resize == @kLikeTraining@) {
    resize = rows.full >= rows.scaled && columns.full >= columns.scaled ? @kArea@ : @kBilinear@;
  }
  window->resize = resize;
  return true;
}

// sum / total rounded, halves to even (as rint does); sum + total / 2 could pass 32 bits for the largest frames.
static inline uint32_t Rounded(uint32_t sum, uint32_t total) {
  const uint32_t quotient = sum / total, rest = sum % total, missing = total - rest;
  return quotient + (rest > missing || (rest == missing && (quotient & 1u)));
}

// Sum over the pixels of a row of the window that output pixel x covers. In units of 1/scaled of a frame pixel, output
// pixel i covers [i * full, (i + 1) * full): all weights are whole numbers and sum to full.
static Rgb AreaRow(const uint8_t* row, PixelFormat format, uint32_t step, const Axis* columns, uint32_t x) {
  const uint32_t left = x * columns->full, right = left + columns->full, first = left / columns->scaled;
  const uint8_t* p = row + first * step;
  Rgb sum = {0, 0, 0};
  for (uint32_t at = first * columns->scaled; at < right; at += columns->scaled, p += step) {
    const uint32_t end = at + columns->scaled < right ? at + columns->scaled : right;
    const uint32_t weight = end - (at > left ? at : left);
    const Rgb c = ReadPixel(p, format);
    sum.r += weight * c.r;
    sum.g += weight * c.g;
    sum.b += weight * c.b;
  }
  return sum;
}

// Position of output pixel i between two frame pixels, with pixel centers aligned, in 1/2048 of a pixel.
static void Between(const Axis* axis, uint32_t i, uint32_t* first, uint32_t* second, uint32_t* weight) {
  // (i + 1/2) * full / scaled - 1/2
  int64_t at = 2 * i + 1;
  at = (at * axis->full - axis->scaled) * 1024;
  const int64_t fixed = at <= 0 ? 0 : (at + axis->scaled / 2) / axis->scaled;
  *first = @u32@(fixed >> 11);
  *weight = @u32@(fixed & 2047);
  if (*first >= axis->full - 1) {
    *first = axis->full - 1;
    *weight = 0;
  }
  *second = *weight ? *first + 1 : *first;
}

// Output pixel x between two pixels of a row of the window, times 2048.
static Rgb BilinearRow(const uint8_t* row, PixelFormat format, uint32_t step, const Axis* columns, uint32_t x) {
  uint32_t first, second, weight;
  Between(columns, x, &first, &second, &weight);
  const Rgb a = ReadPixel(row + first * step, format), b = ReadPixel(row + second * step, format);
  const Rgb c = {(2048 - weight) * a.r + weight * b.r, (2048 - weight) * a.g + weight * b.g, (2048 - weight) * a.b + weight * b.b};
  return c;
}

// Between two such pixels, one below the other.
static inline Rgb Mix(Rgb above, Rgb below, uint32_t weight) {
  const Rgb c = {((2048 - weight) * above.r + weight * below.r + (1u << 21)) >> 22, ((2048 - weight) * above.g + weight * below.g + (1u << 21)) >> 22,
                 ((2048 - weight) * above.b + weight * below.b + (1u << 21)) >> 22};
  return c;
}

// The frame pixel under output pixel i, in the window.
static inline uint32_t Nearest(const Axis* axis, uint32_t i) { return i * axis->full / axis->scaled; }

static inline void Store(Rgb c, PixelFormat format, InputElement* out) {
  if (kInputChannels == 1) {
    out[0] = QuantizePixel(format == @kGray8@ ? c.r : Luma(c));
  } else {
    out[0] = QuantizePixel(c.r);
    out[1] = QuantizePixel(c.g);
    out[2] = QuantizePixel(c.b);
  }
}
