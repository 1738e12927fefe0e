// @banner@
#include "image_input.h"

namespace @ns@ {
namespace {

constexpr uint32_t kMaxFramePixels = 16843009;  // 2^32 / 255: what a 32-bit sum of pixels can hold

struct Rgb {
  uint32_t r, g, b;
};

uint32_t BytesPerPixel(PixelFormat format) {
  switch (format) {
    case PixelFormat::kRgb888:
    case PixelFormat::kBgr888:
      return 3;
    case PixelFormat::kRgb565LittleEndian:
    case PixelFormat::kRgb565BigEndian:
      return 2;
    case PixelFormat::kGray8:
      return 1;
  }
  return 0;
}

inline Rgb From565(uint32_t value) {
  // The high bits are repeated in the low ones, so that full scale stays full scale.
  const uint32_t r = value >> 11, g = (value >> 5) & 63u, b = value & 31u;
  return {(r << 3) | (r >> 2), (g << 2) | (g >> 4), (b << 3) | (b >> 2)};
}

inline Rgb ReadPixel(const uint8_t* p, PixelFormat format) {
  switch (format) {
    case PixelFormat::kRgb888:
      return {p[0], p[1], p[2]};
    case PixelFormat::kBgr888:
      return {p[2], p[1], p[0]};
    case PixelFormat::kRgb565LittleEndian:
      return From565(p[0] | (static_cast<uint32_t>(p[1]) << 8));
    case PixelFormat::kRgb565BigEndian:
      return From565(p[1] | (static_cast<uint32_t>(p[0]) << 8));
    case PixelFormat::kGray8:
      break;
  }
  return {p[0], p[0], p[0]};
}

// ITU-R BT.601 luma in 15-bit fixed point: 0.299 R + 0.587 G + 0.114 B.
inline uint32_t Luma(const Rgb& c) { return (9798u * c.r + 19235u * c.g + 3735u * c.b + 16384u) >> 15; }

// One direction of the resize: `full` pixels of the window, which starts at `start` in the frame, become `scaled`.
struct Axis {
  uint32_t start, full, scaled;
};

// round(a * b / c) with halves to even, for the size of the window.
uint32_t RoundedRatio(uint32_t a, uint32_t b, uint32_t c) {
  const uint64_t product = static_cast<uint64_t>(a) * b;
  const uint32_t quotient = static_cast<uint32_t>(product / c);
  const uint64_t twice = 2 * (product % c);
  if (twice > c || (twice == c && (quotient & 1u))) return quotient + 1;
  return quotient;
}

// sum / total rounded, halves to even (as rint does); sum + total / 2 could pass 32 bits for the largest frames.
inline uint32_t Rounded(uint32_t sum, uint32_t total) {
  const uint32_t quotient = sum / total, rest = sum % total, missing = total - rest;
  return quotient + (rest > missing || (rest == missing && (quotient & 1u)));
}

// Mean over the frame pixels that output pixel (y, x) covers. In units of 1/scaled of a frame pixel, output
// pixel i covers [i * full, (i + 1) * full): all weights are whole numbers and sum to full.
Rgb Area(const Frame& frame, uint32_t stride, uint32_t step, const Axis& rows, const Axis& columns, uint32_t y, uint32_t x) {
  const uint32_t top = y * rows.full, bottom = top + rows.full;
  const uint32_t left = x * columns.full, right = left + columns.full;
  uint32_t sy = top / rows.scaled;
  const uint32_t x0 = left / columns.scaled;
  Rgb sum = {0, 0, 0};
  for (uint32_t at_y = sy * rows.scaled; at_y < bottom; at_y += rows.scaled, ++sy) {
    const uint32_t end_y = at_y + rows.scaled < bottom ? at_y + rows.scaled : bottom;
    const uint32_t weight_y = end_y - (at_y > top ? at_y : top);
    const uint8_t* p = frame.pixels + (rows.start + sy) * stride + (columns.start + x0) * step;
    Rgb row = {0, 0, 0};
    for (uint32_t at_x = x0 * columns.scaled; at_x < right; at_x += columns.scaled, p += step) {
      const uint32_t end_x = at_x + columns.scaled < right ? at_x + columns.scaled : right;
      const uint32_t weight_x = end_x - (at_x > left ? at_x : left);
      const Rgb c = ReadPixel(p, frame.format);
      row.r += weight_x * c.r;
      row.g += weight_x * c.g;
      row.b += weight_x * c.b;
    }
    sum.r += weight_y * row.r;
    sum.g += weight_y * row.g;
    sum.b += weight_y * row.b;
  }
  const uint32_t total = rows.full * columns.full;
  return {Rounded(sum.r, total), Rounded(sum.g, total), Rounded(sum.b, total)};
}

// Position of output pixel i between two frame pixels, with pixel centers aligned, in 1/2048 of a pixel.
void Between(const Axis& axis, uint32_t i, uint32_t* first, uint32_t* second, uint32_t* weight) {
  // (i + 1/2) * full / scaled - 1/2
  const int64_t at = (static_cast<int64_t>(2 * i + 1) * axis.full - axis.scaled) * 1024;
  const int64_t fixed = at <= 0 ? 0 : (at + axis.scaled / 2) / axis.scaled;
  *first = static_cast<uint32_t>(fixed >> 11);
  *weight = static_cast<uint32_t>(fixed & 2047);
  if (*first >= axis.full - 1) {
    *first = axis.full - 1;
    *weight = 0;
  }
  *second = *weight ? *first + 1 : *first;
}

inline uint32_t Mix(uint32_t a, uint32_t b, uint32_t c, uint32_t d, uint32_t wy, uint32_t wx) {
  return ((2048 - wy) * ((2048 - wx) * a + wx * b) + wy * ((2048 - wx) * c + wx * d) + (1u << 21)) >> 22;
}

Rgb Bilinear(const Frame& frame, uint32_t stride, uint32_t step, const Axis& rows, const Axis& columns, uint32_t y, uint32_t x) {
  uint32_t y0, y1, wy, x0, x1, wx;
  Between(rows, y, &y0, &y1, &wy);
  Between(columns, x, &x0, &x1, &wx);
  const uint8_t* corner = frame.pixels + rows.start * stride + columns.start * step;
  const uint8_t *above = corner + y0 * stride, *below = corner + y1 * stride;
  const Rgb a = ReadPixel(above + x0 * step, frame.format);
  const Rgb b = ReadPixel(above + x1 * step, frame.format);
  const Rgb c = ReadPixel(below + x0 * step, frame.format);
  const Rgb d = ReadPixel(below + x1 * step, frame.format);
  return {Mix(a.r, b.r, c.r, d.r, wy, wx), Mix(a.g, b.g, c.g, d.g, wy, wx), Mix(a.b, b.b, c.b, d.b, wy, wx)};
}

// The frame pixel under output pixel i.
inline uint32_t Nearest(const Axis& axis, uint32_t i) { return axis.start + i * axis.full / axis.scaled; }

}  // namespace

bool QuantizeFrame(const Frame& frame, InputElement* input, Resize resize) {
  const uint32_t step = BytesPerPixel(frame.format);
  if (frame.pixels == nullptr || input == nullptr || frame.width < 1 || frame.height < 1 || frame.stride_bytes < 0 || step == 0) return false;
  if (frame.width > 65535 || frame.height > 65535) return false;
  const uint32_t width = static_cast<uint32_t>(frame.width), height = static_cast<uint32_t>(frame.height);
  const uint32_t stride = frame.stride_bytes ? static_cast<uint32_t>(frame.stride_bytes) : width * step;
  if (stride < width * step || width * height > kMaxFramePixels) return false;

  // The largest centered window with the input's aspect ratio.
  uint32_t window_height = RoundedRatio(width, kInputHeight, kInputWidth), window_width = RoundedRatio(height, kInputWidth, kInputHeight);
  window_height = window_height < 1 ? 1 : window_height > height ? height : window_height;
  window_width = window_width < 1 ? 1 : window_width > width ? width : window_width;
  const Axis rows = {(height - window_height) / 2, window_height, kInputHeight};
  const Axis columns = {(width - window_width) / 2, window_width, kInputWidth};

  if (resize == Resize::kLikeTraining) {
    resize = rows.full >= rows.scaled && columns.full >= columns.scaled ? Resize::kArea : Resize::kBilinear;
  }
  for (int y = 0; y < kInputHeight; ++y) {
    for (int x = 0; x < kInputWidth; ++x) {
      const uint32_t at_y = static_cast<uint32_t>(y), at_x = static_cast<uint32_t>(x);
      Rgb c;
      if (resize == Resize::kArea) {
        c = Area(frame, stride, step, rows, columns, at_y, at_x);
      } else if (resize == Resize::kBilinear) {
        c = Bilinear(frame, stride, step, rows, columns, at_y, at_x);
      } else {
        c = ReadPixel(frame.pixels + Nearest(rows, at_y) * stride + Nearest(columns, at_x) * step,
                      frame.format);
      }
      const int pixel = kInputRotation == 180 ? (kInputHeight - 1 - y) * kInputWidth + (kInputWidth - 1 - x) : y * kInputWidth + x;
      InputElement* out = input + pixel * kInputChannels;
      if (kInputChannels == 1) {
        out[0] = QuantizePixel(frame.format == PixelFormat::kGray8 ? c.r : Luma(c));
      } else {
        out[0] = QuantizePixel(c.r);
        out[1] = QuantizePixel(c.g);
        out[2] = QuantizePixel(c.b);
      }
    }
  }
  return true;
}

}  // namespace @ns@
