// Mean over the frame pixels that output pixel (y, x) covers; `corner` is the window's first pixel.
static Rgb Area(const uint8_t* corner, PixelFormat format, const Window* window, uint32_t y, uint32_t x) {
  const Axis* rows = &window->rows;
  const uint32_t top = y * rows->full, bottom = top + rows->full;
  uint32_t sy = top / rows->scaled;
  Rgb sum = {0, 0, 0};
  for (uint32_t at = sy * rows->scaled; at < bottom; at += rows->scaled, ++sy) {
    const uint32_t end = at + rows->scaled < bottom ? at + rows->scaled : bottom;
    const uint32_t weight = end - (at > top ? at : top);
    const Rgb row = AreaRow(corner + sy * window->stride, format, window->step, &window->columns, x);
    sum.r += weight * row.r;
    sum.g += weight * row.g;
    sum.b += weight * row.b;
  }
  const uint32_t total = rows->full * window->columns.full;
  const Rgb c = {Rounded(sum.r, total), Rounded(sum.g, total), Rounded(sum.b, total)};
  return c;
}

static Rgb Bilinear(const uint8_t* corner, PixelFormat format, const Window* window, uint32_t y, uint32_t x) {
  uint32_t first, second, weight;
  Between(&window->rows, y, &first, &second, &weight);
  return Mix(BilinearRow(corner + first * window->stride, format, window->step, &window->columns, x),
             BilinearRow(corner + second * window->stride, format, window->step, &window->columns, x), weight);
}

static bool Convert(const Frame* frame, Resize resize, InputElement* input) {
  Window window;
  if (!frame->pixels || !input) return false;
  if (!FindWindow(frame->width, frame->height, frame->format, frame->stride_bytes, resize, &window)) return false;
  const uint8_t* corner = frame->pixels + window.rows.start * window.stride + window.columns.start * window.step;
  for (uint32_t y = 0; y < kInputHeight; ++y) {
    for (uint32_t x = 0; x < kInputWidth; ++x) {
      Rgb c;
      if (window.resize == @kArea@) {
        c = Area(corner, frame->format, &window, y, x);
      } else if (window.resize == @kBilinear@) {
        c = Bilinear(corner, frame->format, &window, y, x);
      } else {
        c = ReadPixel(corner + Nearest(&window.rows, y) * window.stride + Nearest(&window.columns, x) * window.step, frame->format);
      }
      const uint32_t pixel = kInputRotation == 180 ? (kInputHeight - 1 - y) * kInputWidth + (kInputWidth - 1 - x) : y * kInputWidth + x;
      Store(c, frame->format, input + pixel * kInputChannels);
    }
  }
  return true;
}
