// Mean over the frame pixels that output pixel (y, x) covers; `corner` is the window's first pixel.
static Rgb Area(const uint8_t* corner, PixelFormat format, const Window* window, uint32_t y, uint32_t x) {
  const uint32_t top = y * window->rows.full, bottom = top + window->rows.full;
  const uint32_t left = x * window->columns.full, first = left / kInputWidth;
  const uint32_t sy = top / kInputHeight;
  const uint8_t* p = corner + sy * window->stride + first * window->step;
  Rgb sum = {0, 0, 0};
  for (uint32_t at = sy * kInputHeight; at < bottom; at += kInputHeight, p += window->stride) {
    const uint32_t end = at + kInputHeight < bottom ? at + kInputHeight : bottom;
    const uint32_t weight = end - (at > top ? at : top);
    const Rgb row = AreaRow(p, format, window->step, window->columns.full, left, first * kInputWidth);
    sum.r += weight * row.r;
    sum.g += weight * row.g;
    sum.b += weight * row.b;
  }
  const uint32_t total = window->rows.full * window->columns.full;
  const Rgb c = {Rounded(sum.r, total), Rounded(sum.g, total), Rounded(sum.b, total)};
  return c;
}

static Rgb Bilinear(const uint8_t* corner, PixelFormat format, const Window* window, uint32_t y, uint32_t x) {
  const Position row = Between(window->rows.full, kInputHeight, y), at = Between(window->columns.full, kInputWidth, x);
  return Down(Across(corner + row.first * window->stride, format, window->step, at),
              Across(corner + row.second * window->stride, format, window->step, at), row.weight);
}

static bool Convert(const Frame* frame, Resize resize, InputElement* input) {
  Window found;
  if (!frame->pixels || !input) return false;
  const PixelFormat format = frame->format;
  if (!FindWindow(frame->width, frame->height, format, frame->stride_bytes, resize, &found)) return false;
  const Window window = found;  // that no pixel written may change
  const uint8_t* corner = frame->pixels + window.rows.start * window.stride + window.columns.start * window.step;
  for (uint32_t y = 0; y < kInputHeight; ++y) {
    for (uint32_t x = 0; x < kInputWidth; ++x) {
      Rgb c;
      if (window.resize == @kArea@) {
        c = Area(corner, format, &window, y, x);
      } else if (window.resize == @kBilinear@) {
        c = Bilinear(corner, format, &window, y, x);
      } else {
        const uint32_t row = Nearest(window.rows.full, kInputHeight, y), column = Nearest(window.columns.full, kInputWidth, x);
        c = ReadPixel(corner + row * window.stride + column * window.step, format);
      }
      const uint32_t pixel = kInputRotation == 180 ? (kInputHeight - 1 - y) * kInputWidth + (kInputWidth - 1 - x) : y * kInputWidth + x;
      Store(c, format, input + pixel * kInputChannels);
    }
  }
  return true;
}
