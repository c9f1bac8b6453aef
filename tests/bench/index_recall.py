"""Recall@10 against bytes read: our index beside FAISS's inverted lists, on the same vectors.

`index_recall.py BASE QUERIES DIMENSIONS --ours PROGRAM --folder FOLDER [--rows N] [--rerank N] [--out JSON]
[--plot SVG]`: BASE and QUERIES are little-endian f32. PROGRAM is the example `recall` of `huatuo-index`; it builds the
index into FOLDER unless one is there. FAISS is PyPI's `faiss-cpu` (1.15 was used), in the Python that runs this.

FAISS stays in memory and is charged for what it would have to read from a static host: the lists that it probes, and, where
it reranks, the vectors of its best (40, as our index does by default) as int8. It is charged neither for checksums nor for
finding its lists, which our bytes include, and at each of our points is given the metric that finds more there. In `rows/32`
and `4·√rows` its centroids are in memory as f32; in `rows/32 in two levels` and `rows/448` it may hold about as many entry
points as our root has, and reads the rest.
"""

import argparse
import json
import subprocess
from pathlib import Path

import faiss
import numpy as np

import faiss_ivf
from recall_plot import Line, plot
from unit_vectors import exact, open_vectors, unit

KB = 1000
# FAISS is measured up to this multiple of our dearest search.
HEADROOM = 1.3
# Scores closer than this are equal in f32, so which of them is the tenth is open.
TIE = 1e-6
EVERYTHING_RESIDENT = ("rows/32", "4·√rows")
OUR_COLOURS = ("#7fb8e8", "#3d8fd1", "#1466a8", "#073a66")
FAISS_COLOURS = {"RaBitQ": "#d1432f", "PQ": "#2f9e52"}
FAISS_DASHES = {"rows/32": "", "4·√rows": "8 4", "rows/32 in two levels": "2 3", "rows/448": "10 3 2 3"}
PLOT_RECALL = (0.70, 1.0)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path)
    parser.add_argument("queries", type=Path)
    parser.add_argument("dimensions", type=int)
    parser.add_argument("--ours", type=Path, required=True, metavar="PROGRAM")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--rows", type=int)
    parser.add_argument("--rerank", type=int, default=40, help="vectors that FAISS reads, the best by code")
    parser.add_argument("--out", type=Path, metavar="JSON")
    parser.add_argument("--plot", type=Path, metavar="SVG")
    parsed = parser.parse_args()
    if parsed.dimensions <= 0 or parsed.dimensions % 8:
        parser.error("DIMENSIONS must be a multiple of 8: PQ takes 8 at a time")
    if parsed.rerank < faiss_ivf.K:
        parser.error(f"--rerank must be {faiss_ivf.K} at least: so many are looked for")
    return parsed


def ours(arguments):
    """Runs our program: one object for each effort."""
    rows = [] if arguments.rows is None else [str(arguments.rows)]
    command = [arguments.ours, arguments.base, arguments.queries, str(arguments.dimensions), arguments.folder, *rows]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return [json.loads(line) for line in output.splitlines()]


def resident_bytes(folder):
    """Bytes of our roots, which stay in memory."""
    manifest = json.loads((folder / "manifest.json").read_text())
    return sum(segment["root"]["length"] for segment in manifest["segments"])


def reranked(curve):
    """The curve with reranking, ids of 4 bytes: (bytes, recall)."""
    return [(point.probed_bytes_short_ids + curve.rerank_bytes, point.recall_reranked) for point in curve.points]


def interpolated(points, size):
    """Recall at `size` bytes, linear in the logarithm of bytes; None where they do not reach, the last beyond the last."""
    sizes, recalls = zip(*points)
    if size < sizes[0]:
        return None
    return float(np.interp(np.log(size), np.log(sizes), recalls))


def better_metric(curves, sizes):
    """Of each system and layout, the curve of the metric that finds more at `sizes` together: the one to show."""
    def found(curve):
        return sum(interpolated(reranked(curve), size) or 0 for size in sizes)

    best = {}
    for curve in curves:
        key = curve.system, curve.lists
        if key not in best or found(curve) > found(best[key]):
            best[key] = curve
    return best


def best_at(curves, size):
    """For each system and layout, the most that a metric of it finds at `size` bytes; None where none reaches."""
    out = {}
    for curve in curves:
        key, recall = (curve.system, curve.lists), interpolated(reranked(curve), size)
        out[key] = max((x for x in (out.get(key), recall) if x is not None), default=None)
    return out


def comparison(mine, curves):
    """For each of our efforts, what FAISS finds with reranking for the same bytes, and whether ours is as good."""
    out = []
    for effort in mine:
        peers = best_at(curves, effort["bytes"])
        rows = [{"system": system, "lists": lists, "recall": recall,
                 "ours_at_least": None if recall is None else effort["recall"] >= recall}
                for (system, lists), recall in peers.items()]
        out.append({"effort": setting(effort), "bytes": effort["bytes"], "recall": effort["recall"], "peers": rows})
    return out


def setting(effort):
    return f"lists {effort['list_bytes'] >> 10} KiB, expand {effort['expand']}, rounds {effort['rounds']}"


def name(curve):
    return f"FAISS {curve.system}, {curve.lists}"


def line(*cells):
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def header(*cells):
    return [line(*cells), "|" + "---|" * len(cells)]


def system_table(mine, resident, best):
    """Every effort of ours, and FAISS at each power of two of `nprobe`, by code and reranked."""
    out = header("system", "setting", "recall@10", "KB", "KB, ids of 4 bytes", "trips", "resident KB")
    for effort in mine:
        size = f"{effort['bytes'] / KB:.0f}"
        out.append(line("ours", setting(effort), f"{effort['recall']:.3f}", size, size, f"{effort['trips']:.1f}",
                        f"{resident / KB:.0f}"))
    for curve in best.values():
        for point in curve.points:
            if point.nprobe & (point.nprobe - 1) == 0:
                out += faiss_rows(curve, point)
    return out


def faiss_rows(curve, point):
    variants = (("", point.recall_by_code, 0, 0), (" + rerank", point.recall_reranked, curve.rerank_bytes, 1))
    for suffix, recall, more_bytes, more_trips in variants:
        yield line(name(curve) + suffix, f"{curve.metric}, nlist {curve.nlist}, nprobe {point.nprobe}", f"{recall:.3f}",
                   f"{(point.probed_bytes + more_bytes) / KB:.0f}",
                   f"{(point.probed_bytes_short_ids + more_bytes) / KB:.0f}",
                   curve.trips + more_trips, f"{curve.resident_bytes / KB:.0f}")


def comparison_table(compared):
    """Our recall beside FAISS's at the same bytes; the difference is ours less FAISS's."""
    peers = compared[0]["peers"]
    resident = [peer["lists"] in EVERYTHING_RESIDENT for peer in peers]
    out = header("ours", "KB", "recall@10", *(f"{peer['system']}, {peer['lists']}" for peer in peers),
                 "≥ all with centroids in memory", "≥ all with few in memory")
    for row in compared:
        cells = [beside(row["recall"], peer["recall"]) for peer in row["peers"]]
        out.append(line(row["effort"], f"{row['bytes'] / KB:.0f}", f"{row['recall']:.3f}", *cells,
                        verdict(peer for peer, held in zip(row["peers"], resident) if held),
                        verdict(peer for peer, held in zip(row["peers"], resident) if not held)))
    return out


def beside(recall, peer):
    return "–" if peer is None else f"{peer:.3f} ({recall - peer:+.3f})"


def verdict(peers):
    return "yes" if all(peer["ours_at_least"] is not False for peer in peers) else "no"


def our_lines(mine):
    """One line for each number of rounds."""
    rounds = sorted({effort["rounds"] for effort in mine})
    for colour, number in zip(OUR_COLOURS, rounds):
        efforts = [effort for effort in mine if effort["rounds"] == number]
        trips = sum(effort["trips"] for effort in efforts) / len(efforts)
        points = sorted((effort["bytes"], effort["recall"]) for effort in efforts)
        yield Line(f"ours, rounds {number} ({trips:.1f} trips)", colour, "", points)


def drawing(title, mine, best):
    faiss_lines = [Line(f"{name(curve)} ({curve.trips + 1} trips)", FAISS_COLOURS[curve.system], FAISS_DASHES[curve.lists],
                        reranked(curve)) for curve in best.values()]
    sizes = [effort["bytes"] for effort in mine]
    return plot(title, [*our_lines(mine), *faiss_lines], (min(sizes) / 2, max(sizes) * HEADROOM), PLOT_RECALL)


def ground_truth(base, queries):
    """The nearest ten of each query, and the share of queries whose tenth and eleventh are equally near."""
    scores, rows = exact(base, queries, faiss_ivf.K + 1)
    tied = float(np.mean(scores[:, -2] - scores[:, -1] < TIE))
    return rows[:, : faiss_ivf.K], tied


def main():
    given = arguments()
    base = open_vectors(given.base, given.dimensions, given.rows)
    queries = unit(open_vectors(given.queries, given.dimensions))
    truth, tied = ground_truth(base, queries)
    mine = ours(given)
    most = max(effort["bytes"] for effort in mine) * HEADROOM
    curves = list(faiss_ivf.curves(faiss_ivf.Data(base, queries, truth, given.rerank), most))
    best = better_metric(curves, [effort["bytes"] for effort in mine])
    compared, resident = comparison(mine, curves), resident_bytes(given.folder)
    title = f"{len(base):,} vectors of {given.dimensions} dimensions, {len(queries)} queries"
    print(f"{title}; FAISS {faiss.__version__}, {given.rerank} reranked; "
          f"{tied:.1%} of the queries have an eleventh as near as the tenth\n")
    print("\n".join([*system_table(mine, resident, best), "", "FAISS with reranking, ids of 4 bytes, at our bytes:", "",
                     *comparison_table(compared)]))
    if given.out:
        result = {"vectors": title, "faiss": faiss.__version__, "rerank": given.rerank, "tied": tied,
                  "resident_bytes": resident, "ours": mine, "compared": compared,
                  "faiss_curves": [curve.as_dict() for curve in curves]}
        given.out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    if given.plot:
        given.plot.write_text(drawing(title + "; FAISS with reranking, ids of 4 bytes", mine, best))


if __name__ == "__main__":
    main()
