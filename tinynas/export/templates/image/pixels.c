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

static inline Rgb MakeRgb(uint32_t r, uint32_t g, uint32_t b) {
  const Rgb c = {r, g, b};
  return c;
}

static inline Rgb ReadPixel(const uint8_t* p, PixelFormat format) {
  switch (format) {
    case @kRgb888@:
      return MakeRgb(p[0], p[1], p[2]);
    case @kBgr888@:
      return MakeRgb(p[2], p[1], p[0]);
    case @kRgb565LittleEndian@:
      return From565(p[0] | (@u32@(p[1]) << 8));
    case @kRgb565BigEndian@:
      return From565(p[1] | (@u32@(p[0]) << 8));
    case @kGray8@:
      break;
  }
  return MakeRgb(p[0], p[0], p[0]);
}

// ITU-R BT.601 luma in 15-bit fixed point: 0.299 R + 0.587 G + 0.114 B.
static inline uint32_t Luma(Rgb c) { return (9798u * c.r + 19235u * c.g + 3735u * c.b + 16384u) >> 15; }

// One direction of the resize: `full` pixels of the window, which starts at `start` in the frame, become those of the input.
typedef struct {
  uint32_t start, full;
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
  const Axis rows = {(height - window_height) / 2, window_height};
  const Axis columns = {(width - window_width) / 2, window_width};
  window->step = step;
  window->stride = stride;
  window->rows = rows;
  window->columns = columns;
  if (resize == @kLikeTraining@) {
    resize = rows.full >= kInputHeight && columns.full >= kInputWidth ? @kArea@ : @kBilinear@;
  }
  window->resize = resize;
  return true;
}

// sum / total rounded, halves to even (as rint does); sum + total / 2 could pass 32 bits for the largest frames.
static inline uint32_t Rounded(uint32_t sum, uint32_t total) {
  const uint32_t quotient = sum / total, rest = sum % total, missing = total - rest;
  return quotient + (rest > missing || (rest == missing && (quotient & 1u)));
}

// Sum over the pixels of a row, from p on, that an output pixel covers. In units of 1/width of the input of a frame pixel, output
// pixel i covers [i * full, (i + 1) * full): all weights are whole numbers and sum to full. It begins at `left`, p at `at`.
static inline Rgb AreaRow(const uint8_t* p, PixelFormat format, uint32_t step, uint32_t full, uint32_t left, uint32_t at) {
  const uint32_t right = left + full;
  Rgb sum = {0, 0, 0};
  for (; at < right; at += kInputWidth, p += step) {
    const uint32_t end = at + kInputWidth < right ? at + kInputWidth : right;
    const uint32_t weight = end - (at > left ? at : left);
    const Rgb c = ReadPixel(p, format);
    sum.r += weight * c.r;
    sum.g += weight * c.g;
    sum.b += weight * c.b;
  }
  return sum;
}

// Where an output pixel lies between two frame pixels: `weight` / 2048 from the first one to the second.
typedef struct {
  uint32_t first, second, weight;
} Position;

// Of output pixel i of `scaled`, with pixel centers aligned.
static inline Position Between(uint32_t full, uint32_t scaled, uint32_t i) {
  // (i + 1/2) * full / scaled - 1/2
  int64_t at = 2 * i + 1;
  at = (at * full - scaled) * 1024;
  const int64_t fixed = at <= 0 ? 0 : (at + scaled / 2) / scaled;
  Position found = {@u32@(fixed >> 11), 0, @u32@(fixed & 2047)};
  if (found.first >= full - 1) {
    found.first = full - 1;
    found.weight = 0;
  }
  found.second = found.weight ? found.first + 1 : found.first;
  return found;
}

// Between two pixels of a row of the window, times 2048.
static inline Rgb Across(const uint8_t* row, PixelFormat format, uint32_t step, Position at) {
  const uint32_t weight = at.weight, rest = 2048 - weight;
  const Rgb a = ReadPixel(row + at.first * step, format), b = ReadPixel(row + at.second * step, format);
  const Rgb c = {rest * a.r + weight * b.r, rest * a.g + weight * b.g, rest * a.b + weight * b.b};
  return c;
}

// Between two such pixels, one below the other.
static inline Rgb Down(Rgb above, Rgb below, uint32_t weight) {
  const uint32_t rest = 2048 - weight, half = 1u << 21;
  const Rgb c = {(rest * above.r + weight * below.r + half) >> 22, (rest * above.g + weight * below.g + half) >> 22,
                 (rest * above.b + weight * below.b + half) >> 22};
  return c;
}

// The frame pixel under output pixel i, in the window.
static inline uint32_t Nearest(uint32_t full, uint32_t scaled, uint32_t i) { return i * full / scaled; }

static inline void Store(Rgb c, PixelFormat format, InputElement* out) {
  if (kInputChannels == 1) {
    out[0] = QuantizePixel(format == @kGray8@ ? c.r : Luma(c));
  } else {
    out[0] = QuantizePixel(c.r);
    out[1] = QuantizePixel(c.g);
    out[2] = QuantizePixel(c.b);
  }
}
