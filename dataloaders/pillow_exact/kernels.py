"""The loops of `compiled`: Pillow's sums over pixels, compiled by numba where it is installed.

Without numba they are plain Python, far too slow to be used; `transforms` then uses Pillow.
"""

import math

import numpy as np

from dataloaders.pillow_exact.jit import compiled

WEIGHT_BITS = 22  # of Pillow's whole weights of bytes
POSITION_BITS = 16  # of a pixel's fraction in Pillow's rotation


@compiled
def weights(n_in, n_out, start, stop):
    """Return Pillow's triangle filter: first source, their number and weights (n, T) float64."""
    scale = n_in / n_out
    support = max(scale, 1.0)
    inverse = 1.0 / support
    first = np.empty(stop - start, np.int64)
    count = np.empty(stop - start, np.int64)
    weights = np.zeros((stop - start, max(math.ceil(support) * 2 + 1, 4)))
    for i in range(stop - start):
        centre = (start + i + 0.5) * scale
        low = max(int(centre - support + 0.5), 0)
        high = min(int(centre + support + 0.5), n_in)
        total = 0.0
        for t in range(high - low):
            weight = max(1.0 - abs((t + low - centre + 0.5) * inverse), 0.0)
            weights[i, t] = weight
            total += weight
        for t in range(high - low):
            weights[i, t] /= total
        first[i] = low
        count[i] = high - low
    return first, count, weights


@compiled
def mix_bytes(image, first, count, weights, out):
    """Fill rows of out (n, B) with weighted sums of rows of image (A, B), rounded."""
    length = image.shape[1]
    half = np.int32(1 << (WEIGHT_BITS - 1))
    total = np.empty(length, np.int32)
    last = len(image) - 1
    for i in range(len(first)):
        result = out[i]
        if count[i] <= 4:
            # The usual case in one sweep; a missing fourth source has the weight 0.
            w0, w1, w2, w3 = weights[i, 0], weights[i, 1], weights[i, 2], weights[i, 3]
            row0, row1 = image[first[i]], image[min(first[i] + 1, last)]
            row2, row3 = image[min(first[i] + 2, last)], image[min(first[i] + 3, last)]
            for j in range(length):
                left = np.int32(row0[j]) * w0 + np.int32(row1[j]) * w1
                right = np.int32(row2[j]) * w2 + np.int32(row3[j]) * w3
                result[j] = np.uint8((half + left + right) >> WEIGHT_BITS)
            continue
        total[:] = half
        for t in range(count[i]):
            weight = weights[i, t]
            row = image[first[i] + t]
            for j in range(length):
                total[j] += np.int32(row[j]) * weight
        for j in range(length):
            result[j] = np.uint8(total[j] >> WEIGHT_BITS)


@compiled
def mix_floats(image, first, count, weights, out):
    """Fill rows of out (n, B) with weighted sums of rows of image (A, B), in Pillow's order."""
    length = image.shape[1]
    total = np.empty(length, np.float64)
    last = len(image) - 1
    for i in range(len(first)):
        result = out[i]
        if count[i] <= 4:
            w0, w1, w2, w3 = weights[i, 0], weights[i, 1], weights[i, 2], weights[i, 3]
            row0, row1 = image[first[i]], image[min(first[i] + 1, last)]
            row2, row3 = image[min(first[i] + 2, last)], image[min(first[i] + 3, last)]
            for j in range(length):
                left = np.float64(row0[j]) * w0 + np.float64(row1[j]) * w1
                result[j] = np.float32((left + np.float64(row2[j]) * w2) + np.float64(row3[j]) * w3)
            continue
        total[:] = 0
        for t in range(count[i]):
            weight = weights[i, t]
            row = image[first[i] + t]
            for j in range(length):
                total[j] += np.float64(row[j]) * weight
        for j in range(length):
            result[j] = np.float32(total[j])


@compiled
def _sources(steps, i, start, top, left, height, width, sources):
    """Find where row i of the rotated image, from column `start` on, lies in a part of the image.

    sources (n,): position in the flattened (height, width) part whose corner is (top, left),
    -1 outside.
    """
    x = steps[0] * start + steps[1] * i + steps[2] - (left << POSITION_BITS)
    y = steps[3] * start + steps[4] * i + steps[5] - (top << POSITION_BITS)
    for j in range(len(sources)):
        column, row = (x + steps[0] * j) >> POSITION_BITS, (y + steps[3] * j) >> POSITION_BITS
        # Bitwise, so that there is no branch and the loop is vectorised.
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        sources[j] = row * width + column if inside else -1


@compiled
def take(part, top, left, steps, crop_top, crop_left, flip, crop):
    """Fill crop, see `compiled.View.take`; what is outside of the part is outside of the image."""
    channels, height, width = part.shape
    flat = part.reshape(channels, height * width)
    sources = np.empty(crop.shape[2], np.int64)
    for i in range(crop.shape[1]):
        _sources(steps, crop_top + i, crop_left, top, left, height, width, sources)
        if flip:
            sources[:] = sources[::-1].copy()
        for c in range(channels):
            values, out = flat[c], crop[c, i]
            for j in range(len(out)):
                source = sources[j]
                out[j] = values[source] if source >= 0 else 0


@compiled
def _grey(red, green, blue):
    """Return Pillow's grey value of bytes."""
    weighted = np.int32(red) * np.int32(19595) + np.int32(green) * np.int32(38470)
    return (weighted + np.int32(blue) * np.int32(7471) + np.int32(1 << 15)) >> np.int32(16)


@compiled
def grey_total(image, steps):
    """Return the sum of the grey values of the rotated image (3, H, W)."""
    _, height, width = image.shape
    grey = np.empty((height, width), np.uint8)
    for i in range(height):
        red, green, blue, row = image[0, i], image[1, i], image[2, i], grey[i]
        for j in range(width):
            row[j] = np.uint8(_grey(red[j], green[j], blue[j]))
    values = grey.reshape(height * width)
    sources = np.empty(width, np.int64)
    total = 0
    for i in range(height):
        _sources(steps, i, 0, 0, 0, height, width, sources)
        for j in range(width):
            source = sources[j]
            total += values[source] if source >= 0 else 0
    return total


@compiled
def _byte(value):
    """Return a float32 clipped and cut to a byte."""
    return np.uint8(np.int32(min(max(value, np.float32(0)), np.float32(255))))


@compiled
def spread(image, origin, factor):
    """Move bytes (n,) away from `origin` by `factor`, in place."""
    for j in range(len(image)):
        image[j] = _byte(origin + factor * (np.float32(image[j]) - origin))


@compiled
def saturate(image, factor):
    """Move colours (3, n) away from their grey value by `factor`, in place."""
    red, green, blue = image[0], image[1], image[2]
    for j in range(image.shape[1]):
        grey = np.float32(_grey(red[j], green[j], blue[j]))
        red[j] = _byte(grey + factor * (np.float32(red[j]) - grey))
        green[j] = _byte(grey + factor * (np.float32(green[j]) - grey))
        blue[j] = _byte(grey + factor * (np.float32(blue[j]) - grey))
