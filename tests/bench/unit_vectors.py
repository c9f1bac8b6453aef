"""Vectors of unit length from a raw file, the exact nearest of them, and what a search found of those."""

from pathlib import Path

import numpy as np

# Rows held as f32 at one time: 32 MiB at 1,024 dimensions.
CHUNK_ROWS = 8192
INT8_LARGEST = 127


def unit(rows):
    """Scales each row, `[rows, dimensions]`, to length 1; a row of zeros stays one."""
    rows = np.asarray(rows, dtype=np.float32)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.maximum(length, np.finfo(np.float32).tiny)


def open_vectors(path, dimensions, rows=None):
    """Maps a file of little-endian f32 as `[rows, dimensions]`, at most the first `rows`, without reading it."""
    size = Path(path).stat().st_size
    if size == 0 or size % (4 * dimensions):
        raise SystemExit(f"{path}: {size} bytes are not rows of {dimensions} f32")
    return np.memmap(path, dtype="<f4", mode="r").reshape(-1, dimensions)[:rows]


def chunks(vectors):
    """Gives the first row's number and the rows of unit length, a chunk at a time."""
    for first in range(0, len(vectors), CHUNK_ROWS):
        yield first, unit(vectors[first : first + CHUNK_ROWS])


def best(scores, ids, k):
    """Keeps the `k` ids of the highest scores of each row, best first; of equals the earlier."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, order, 1), np.take_along_axis(ids, order, 1)


def exact(vectors, queries, k):
    """Finds the `k` rows of the highest inner product with each query: scores and rows, `[queries, k]`, best first."""
    found = np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
    for first, rows in chunks(vectors):
        scores = queries @ rows.T
        near = np.argpartition(-scores, min(k, len(rows)) - 1, axis=1)[:, :k]
        near.sort(axis=1)
        new = np.take_along_axis(scores, near, 1), near + first
        found = best(*(np.concatenate(pair, axis=1) for pair in zip(found, new)), k)
    return found


def int8_rows(rows):
    """Gives the rows as int8 with one f32 scale each would give them back: what a reader of `dimensions + 4` bytes has."""
    scale = np.maximum(np.abs(rows).max(axis=-1, keepdims=True), np.finfo(np.float32).tiny) / INT8_LARGEST
    return np.rint(rows / scale) * scale


def rerank(vectors, queries, candidates, k):
    """Orders candidates, `[queries, n]` with -1 for none, by the inner product with their int8 vectors; keeps `k`."""
    out = np.empty((len(queries), k), np.int64)
    for query, ids, row in zip(queries, candidates, out):
        scores = int8_rows(unit(vectors[np.maximum(ids, 0)])) @ query
        scores[ids < 0] = -np.inf
        row[:] = best(scores[None], ids[None], k)[1]
    return out


def recall(found, truth):
    """Gives the share of the rows in `truth`, `[queries, k]`, that stand in the same line of `found`."""
    hits = sum(len(np.intersect1d(a, b)) for a, b in zip(found, truth))
    return hits / truth.size
