"""The arithmetic of `index_recall.py`: `python -m unittest discover tests/bench`, with numpy and faiss-cpu installed."""

import unittest

import numpy as np

from faiss_ivf import Curve, Point, probed_bytes, sweep
from index_recall import best_at, interpolated, verdict
from unit_vectors import CHUNK_ROWS, exact, int8_rows, recall, rerank, unit


def some_vectors(rows, dimensions=16, seed=1):
    return np.random.default_rng(seed).standard_normal((rows, dimensions)).astype(np.float32)


class Recall(unittest.TestCase):
    def test_a_search_in_chunks_finds_what_a_full_sort_finds(self):
        vectors, queries = some_vectors(2 * CHUNK_ROWS + 3), unit(some_vectors(5, seed=2))
        scores = queries @ unit(vectors).T
        _, rows = exact(vectors, queries, 10)
        np.testing.assert_array_equal(rows, np.argsort(-scores, axis=1, kind="stable")[:, :10])

    def test_fewer_rows_than_wanted_are_all_found(self):
        _, rows = exact(some_vectors(3), unit(some_vectors(2, seed=2)), 10)
        self.assertEqual([sorted(line) for line in rows.tolist()], [[0, 1, 2]] * 2)

    def test_recall_counts_rows_in_whatever_order(self):
        self.assertEqual(recall(np.array([[3, 1], [9, 8]]), np.array([[1, 3], [8, 7]])), 0.75)

    def test_an_int8_row_is_off_by_half_a_step_at_most(self):
        rows = unit(some_vectors(20))
        step = np.abs(rows).max(axis=1, keepdims=True) / 127
        self.assertTrue((np.abs(int8_rows(rows) - rows) <= step * 0.5001).all())

    def test_reranking_puts_the_nearest_first_and_none_last(self):
        vectors, query = some_vectors(50), unit(some_vectors(1, seed=2))
        _, nearest = exact(vectors, query, 3)
        candidates = np.array([[-1, *nearest[0][::-1], -1]])
        np.testing.assert_array_equal(rerank(vectors, query, candidates, 3), nearest)


class Bytes(unittest.TestCase):
    def test_probed_bytes_are_the_mean_of_what_the_lists_hold(self):
        sizes = np.array([10, 20, 30])
        self.assertEqual(probed_bytes(np.array([[0, 1], [2, -1]]), sizes, 5), (30 + 30) * 5 / 2)

    def test_a_list_costs_its_centroid_too_where_that_is_read(self):
        self.assertEqual(probed_bytes(np.array([[0, -1]]), np.array([10]), 5, 7), 57)

    def test_a_sweep_ends_with_all_lists(self):
        self.assertEqual(sweep(10), [1, 2, 3, 4, 6, 8, 10])
        self.assertEqual(sweep(1), [1])


class Comparison(unittest.TestCase):
    CURVE = [(100, 0.5), (400, 0.9)]

    def test_recall_is_linear_in_the_logarithm_of_bytes(self):
        self.assertAlmostEqual(interpolated(self.CURVE, 200), 0.7)

    def test_fewer_bytes_than_the_first_point_find_nothing_comparable(self):
        self.assertIsNone(interpolated(self.CURVE, 99))

    def test_more_bytes_than_the_last_point_find_as_much_as_it(self):
        self.assertEqual(interpolated(self.CURVE, 1000), 0.9)

    def test_the_metric_that_finds_more_at_these_bytes_counts(self):
        def curve(metric, low, high):
            points = [Point(1, 1, 0, low, 90, 90), Point(2, 2, 0, high, 390, 390)]
            return Curve("RaBitQ", "rows/32", metric, 4, 8, 0, 10, 1, points)

        curves = [curve("L2", 0.5, 0.9), curve("inner product", 0.6, 0.8)]
        self.assertAlmostEqual(best_at(curves, 100)["RaBitQ", "rows/32"], 0.6)
        self.assertAlmostEqual(best_at(curves, 400)["RaBitQ", "rows/32"], 0.9)
        self.assertIsNone(best_at(curves, 99)["RaBitQ", "rows/32"])

    def test_one_better_peer_is_enough_for_no(self):
        self.assertEqual(verdict([{"ours_at_least": True}, {"ours_at_least": False}]), "no")
        self.assertEqual(verdict([{"ours_at_least": True}, {"ours_at_least": None}]), "yes")


if __name__ == "__main__":
    unittest.main()
