bool @ns@_camera_begin(@ns@_camera_t* camera, int width, int height, PixelFormat format, Resize resize) {
  Window window;
  if (!FindWindow(width, height, format, 0, resize, &window)) return false;
  camera->step = window.step;
  camera->top = window.rows.start;
  camera->rows = window.rows.full;
  camera->left = window.columns.start;
  camera->columns = window.columns.full;
  camera->format = format;
  camera->resize = window.resize;
  camera->taken = camera->given = 0;
  camera->pixels = 0;
  return true;
}

void @ns@_camera_take(@ns@_camera_t* camera, const uint8_t* row) {
  const uint32_t y = camera->taken++ - camera->top;  // above the window it is a large number
  camera->pixels = y < camera->rows && camera->given < kInputHeight ? row + camera->left * camera->step : 0;
}

// The weighted sum of the rows that cover an output row grows; true once the last of them is in it.
static bool AddArea(@ns@_camera_t* camera, uint32_t y) {
  const uint32_t top = camera->given * camera->rows, bottom = top + camera->rows, at = y * kInputHeight;
  const uint32_t end = at + kInputHeight < bottom ? at + kInputHeight : bottom, weight = end - (at > top ? at : top);
  uint32_t* sums = camera->sums;
  for (uint32_t x = 0; x < kInputWidth; ++x, sums += 3) {
    const uint32_t left = x * camera->columns, first = left / kInputWidth;
    const uint8_t* p = camera->pixels + first * camera->step;
    const Rgb row = AreaRow(p, camera->format, camera->step, camera->columns, left, first * kInputWidth);
    sums[0] = (at > top ? sums[0] : 0) + weight * row.r;
    sums[1] = (at > top ? sums[1] : 0) + weight * row.g;
    sums[2] = (at > top ? sums[2] : 0) + weight * row.b;
  }
  return end == bottom;
}

const uint8_t* @ns@_camera_next(@ns@_camera_t* camera) {
  if (!camera->pixels) return 0;
  const uint32_t y = camera->taken - 1 - camera->top, total = camera->rows * camera->columns;
  const Position row = Between(camera->rows, kInputHeight, camera->given);
  bool ready;
  if (camera->resize == @kArea@) {
    ready = AddArea(camera, y);
  } else if (camera->resize == @kBilinear@) {
    ready = row.second == y;
  } else {
    ready = Nearest(camera->rows, kInputHeight, camera->given) == y;
  }
  for (uint32_t x = 0; ready && x < kInputWidth; ++x) {
    const uint32_t* sums = camera->sums + 3 * x;
    Rgb c = {0, 0, 0};
    if (camera->resize == @kArea@) {
      const Rgb mean = {Rounded(sums[0], total), Rounded(sums[1], total), Rounded(sums[2], total)};
      c = mean;
    } else if (camera->resize == @kBilinear@) {
      const Rgb above = {sums[0], sums[1], sums[2]};
      const Rgb below = Across(camera->pixels, camera->format, camera->step, Between(camera->columns, kInputWidth, x));
      c = Down(row.first == y ? below : above, below, row.weight);
    } else {
      c = ReadPixel(camera->pixels + Nearest(camera->columns, kInputWidth, x) * camera->step, camera->format);
    }
    Store(c, camera->format, camera->row + x * kInputChannels);
  }
  if (ready) ++camera->given;
  if (camera->given == kInputHeight) {
    camera->pixels = 0;
  } else if (camera->resize == @kArea@) {
    // The rest of this row belongs to the next output row.
    if (!ready || camera->given * camera->rows >= (y + 1) * kInputHeight) camera->pixels = 0;
  } else if (!ready) {
    // No more rows end here. What the next one mixes with the row below is kept.
    if (camera->resize == @kBilinear@ && row.first == y) {
      for (uint32_t x = 0; x < kInputWidth; ++x) {
        const Rgb c = Across(camera->pixels, camera->format, camera->step, Between(camera->columns, kInputWidth, x));
        camera->sums[3 * x] = c.r;
        camera->sums[3 * x + 1] = c.g;
        camera->sums[3 * x + 2] = c.b;
      }
    }
    camera->pixels = 0;
  }
  return ready ? camera->row : 0;
}
