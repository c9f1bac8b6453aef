"""FAISS's inverted lists as if read from a static host: recall@10 against the bytes of the lists that are probed."""

from dataclasses import asdict, dataclass

import faiss
import numpy as np

from unit_vectors import chunks, recall, rerank, unit

K = 10
# Bytes of a vector that is read: int8 and one f32 scale.
SCALE_BYTES = 4
# An id as FAISS stores it, and as rows of fewer than 2^32 would need it.
ID_BYTES, SHORT_ID_BYTES = 8, 4
CENTROID_COMPONENT_BYTES = 4
PQ_BITS = 8
# The query's bits a dimension: recall within 0.001 of an unquantized query's, and seventy times as fast.
QUERY_BITS = 8
# Records of one of our lists, records under one node of our root, and nodes that our search reads.
LIST_RECORDS, NODE_RECORDS, NODES_PROBED = 32, 448, 48
# Rows that train the centroids at most, so that memory stays bounded; k-means takes no more than 256 a centroid.
TRAINING_ROWS = 500_000
SEED = 7
METRICS = {"inner product": faiss.METRIC_INNER_PRODUCT, "L2": faiss.METRIC_L2}


@dataclass
class Point:
    """One `nprobe`: recall@10 by code and after reranking; bytes a query with ids of 8 and of 4 bytes, without the vectors."""

    nprobe: int
    lists: float
    recall_by_code: float
    recall_reranked: float
    probed_bytes: float
    probed_bytes_short_ids: float


@dataclass
class Curve:
    """A system at every `nprobe`. `trips` are those without reranking, which takes one more."""

    system: str
    lists: str
    metric: str
    nlist: int
    code_bytes: int
    resident_bytes: int
    rerank_bytes: int
    trips: int
    points: list

    def as_dict(self):
        return asdict(self)


@dataclass
class Data:
    vectors: np.ndarray
    queries: np.ndarray
    truth: np.ndarray
    # Best by code whose vectors are read.
    rerank: int

    @property
    def dimensions(self):
        return self.queries.shape[1]


def probed_bytes(probed, sizes, entry_bytes, list_bytes=0):
    """Bytes a query of the probed lists, `[queries, nprobe]` with -1 for none: each entry's, and `list_bytes` a list."""
    there = probed >= 0
    entries = np.where(there, sizes[np.maximum(probed, 0)], 0).sum()
    return float(entries * entry_bytes + there.sum() * list_bytes) / len(probed)


def training_rows(vectors):
    rows = np.arange(len(vectors))
    if len(vectors) > TRAINING_ROWS:
        rows = np.sort(np.random.default_rng(SEED).choice(rows, TRAINING_ROWS, replace=False))
    return unit(vectors[rows])


def train_centroids(sample, nlist, metric):
    """Trains as FAISS would itself: k-means, on the sphere for inner products."""
    trainer = faiss.IndexIVFFlat(faiss.IndexFlat(sample.shape[1], metric), sample.shape[1], nlist, metric)
    # FAISS asks for 39 a centroid and prints a warning; lists of 32 are what is measured here.
    trainer.cp.min_points_per_centroid = 1
    trainer.train(sample)
    return trainer.quantizer.reconstruct_n(0, nlist)


def flat(centroids, metric):
    index = faiss.IndexFlat(centroids.shape[1], metric)
    index.add(centroids)
    return index


def random_rotation(dimensions):
    """The turn that RaBitQ asks for (Gao and Long 2024, section 3.1.2) and FAISS leaves to its user."""
    rotation = faiss.RandomRotationMatrix(dimensions, dimensions)
    rotation.init(SEED)
    return rotation.apply


def rabitq(sample, centroids, metric):
    turn = random_rotation(sample.shape[1])
    quantizer = flat(turn(centroids), metric)
    index = faiss.IndexIVFRaBitQ(quantizer, sample.shape[1], len(centroids), metric)
    index.qb = QUERY_BITS
    index.train(turn(sample))
    return index, quantizer, turn, 0


def product_quantization(sample, centroids, metric):
    """Codes of as many bytes as RaBitQ's bits take; the codebooks are resident."""
    dimensions = sample.shape[1]
    quantizer = flat(centroids, metric)
    index = faiss.IndexIVFPQ(quantizer, dimensions, len(centroids), dimensions // 8, PQ_BITS, metric)
    index.train(sample)
    codebook_bytes = (1 << PQ_BITS) * dimensions * CENTROID_COMPONENT_BYTES
    return index, quantizer, lambda rows: rows, codebook_bytes


CODES = {"RaBitQ": rabitq, "PQ": product_quantization}


def list_sizes(index):
    return np.array([index.invlists.list_size(number) for number in range(index.nlist)])


def sweep(nlist):
    """1, 2, 3, 4, 6, 8, 12, 16, … lists, and all of them."""
    steps = [1, *(step for power in range(1, nlist.bit_length()) for step in (1 << power, 3 << (power - 1)))]
    return [*(step for step in steps if step < nlist), nlist]


class Resident:
    """All centroids in memory as f32: their choice costs no bytes and no trip."""

    trips = 1

    def __init__(self, quantizer, metric):
        self.quantizer = quantizer
        self.resident_bytes = quantizer.ntotal * quantizer.d * CENTROID_COMPONENT_BYTES
        self.list_bytes = 0

    def choose(self, queries, nprobe):
        return self.quantizer.search(queries, nprobe)

    def bytes(self, id_bytes):
        return 0.0


class TwoLevels:
    """Centroids as RaBitQ codes in lists of their own, of which 48 are read: as little memory as our root takes.

    The centroid itself, which the codes of its list are relative to, is then read with the list, as int8.
    """

    trips = 2

    def __init__(self, quantizer, metric):
        self.metric = metric
        self.centroids = quantizer.reconstruct_n(0, quantizer.ntotal)
        nodes = train_centroids(self.centroids, max(1, quantizer.ntotal * LIST_RECORDS // NODE_RECORDS), metric)
        self.pages = faiss.IndexIVFRaBitQ(flat(nodes, metric), quantizer.d, len(nodes), metric)
        self.pages.qb = QUERY_BITS
        self.pages.train(self.centroids)
        self.pages.add(self.centroids)
        self.pages.nprobe = min(NODES_PROBED, len(nodes))
        self.resident_bytes = nodes.size * CENTROID_COMPONENT_BYTES
        self.list_bytes = quantizer.d + SCALE_BYTES

    def choose(self, queries, nprobe):
        _, self.read = self.pages.quantizer.search(queries, self.pages.nprobe)
        _, lists = self.pages.search(queries, nprobe)
        scores = queries @ self.centroids.T
        if self.metric == faiss.METRIC_L2:
            scores = (queries**2).sum(axis=1)[:, None] + (self.centroids**2).sum(axis=1) - 2 * scores
        return np.take_along_axis(scores, np.maximum(lists, 0), 1), lists

    def bytes(self, id_bytes):
        return probed_bytes(self.read, list_sizes(self.pages), self.pages.code_size + id_bytes)


def layouts(rows):
    """How many lists, how they are chosen, with which codes."""
    return [
        ("rows/32", rows // LIST_RECORDS, Resident, ("RaBitQ", "PQ")),
        ("4·√rows", int(4 * rows**0.5), Resident, ("RaBitQ", "PQ")),
        ("rows/32 in two levels", rows // LIST_RECORDS, TwoLevels, ("RaBitQ",)),
        ("rows/448", rows // NODE_RECORDS, Resident, ("RaBitQ",)),
    ]


def measure(data, index, turn, coarse, most_bytes):
    """Sweeps `nprobe` until a query reads more than `most_bytes` or every list."""
    sizes, points, queries = list_sizes(index), [], turn(data.queries)
    for nprobe in sweep(index.nlist):
        if points and points[-1].probed_bytes_short_ids > most_bytes:
            break
        distances, lists = coarse.choose(queries, nprobe)
        index.nprobe = nprobe
        _, candidates = index.search_preassigned(queries, data.rerank, lists, distances)
        probed = [
            probed_bytes(lists, sizes, index.code_size + id_bytes, coarse.list_bytes) + coarse.bytes(id_bytes)
            for id_bytes in (ID_BYTES, SHORT_ID_BYTES)
        ]
        reranked = rerank(data.vectors, data.queries, candidates, K)
        points.append(Point(nprobe, float((lists >= 0).sum() / len(lists)), recall(candidates[:, :K], data.truth),
                            recall(reranked, data.truth), *probed))
    return points


def fill(index, vectors, turn):
    for _, rows in chunks(vectors):
        index.add(turn(rows))


def curves(data, most_bytes):
    """Measures every layout, code and metric; gives each curve as it is done."""
    sample, trained = training_rows(data.vectors), {}
    for lists, nlist, choice, codes in layouts(len(data.vectors)):
        for name, metric in METRICS.items():
            if (nlist, metric) not in trained:
                trained[nlist, metric] = train_centroids(sample, nlist, metric)
            for code in codes:
                index, quantizer, turn, codebook_bytes = CODES[code](sample, trained[nlist, metric], metric)
                fill(index, data.vectors, turn)
                coarse = choice(quantizer, metric)
                yield Curve(code, lists, name, nlist, index.code_size, coarse.resident_bytes + codebook_bytes,
                            data.rerank * (data.dimensions + SCALE_BYTES), choice.trips,
                            measure(data, index, turn, coarse, most_bytes))
