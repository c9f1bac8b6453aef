"""A plot of recall against bytes, written as SVG by hand: no plotting library is needed to read or to make it."""

import math
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 1100, 620
LEFT, RIGHT, TOP, BOTTOM = 70, 370, 50, 60
TICKS_KB = (20, 30, 50, 70, 100, 150, 200, 300, 500, 700, 1000, 1500, 2000)
LEGEND_STEP = 24
MARK = 4


@dataclass
class Line:
    """Points are (bytes, recall), bytes ascending."""

    label: str
    colour: str
    dash: str
    points: list


class Axes:
    """Bytes on a logarithmic axis, recall on a linear one, clipped to the window."""

    def __init__(self, bytes_range, recall_range):
        self.bytes_range, self.recall_range = bytes_range, recall_range

    def inside(self, point):
        return all(low <= x <= high for x, (low, high) in zip(point, (self.bytes_range, self.recall_range)))

    def x(self, size):
        low, high = map(math.log, self.bytes_range)
        return LEFT + (WIDTH - LEFT - RIGHT) * (math.log(size) - low) / (high - low)

    def y(self, recall):
        low, high = self.recall_range
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (recall - low) / (high - low)


def text(x, y, words, anchor="start", extra=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {extra}>{escape(words)}</text>'


def rule(x1, y1, x2, y2, style):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" {style}/>'


def grid(axes):
    thin, (low, high) = 'stroke="#ddd"', axes.recall_range
    for percent in range(math.ceil(low * 100 - 1e-9), round(high * 100) + 1):
        if percent % 5 == 0:
            y = axes.y(percent / 100)
            yield rule(LEFT, y, WIDTH - RIGHT, y, thin)
            yield text(LEFT - 8, y + 4, f"{percent / 100:.2f}", "end")
    for kilobytes in TICKS_KB:
        if axes.bytes_range[0] <= kilobytes * 1000 <= axes.bytes_range[1]:
            x = axes.x(kilobytes * 1000)
            yield rule(x, TOP, x, HEIGHT - BOTTOM, thin)
            yield text(x, HEIGHT - BOTTOM + 18, str(kilobytes), "middle")


def drawn(line, axes):
    points = [(axes.x(size), axes.y(recall)) for size, recall in line.points if axes.inside((size, recall))]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    yield f'<polyline points="{path}" fill="none" stroke="{line.colour}" stroke-width="2" stroke-dasharray="{line.dash}"/>'
    for x, y in points:
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{MARK}" fill="{line.colour}"/>'


def legend(lines):
    x = WIDTH - RIGHT + 20
    for y, line in zip(range(TOP + 10, HEIGHT, LEGEND_STEP), lines):
        yield rule(x, y, x + 30, y, f'stroke="{line.colour}" stroke-width="2" stroke-dasharray="{line.dash}"')
        yield f'<circle cx="{x + 15}" cy="{y}" r="{MARK}" fill="{line.colour}"/>'
        yield text(x + 38, y + 4, line.label)


def plot(title, lines, bytes_range, recall_range):
    """Gives the SVG; points outside the window are left out."""
    axes = Axes(bytes_range, recall_range)
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        text(LEFT, 28, title, extra='font-size="16"'),
        *grid(axes),
        text(middle, HEIGHT - 14, "KB a query (1 KB = 1,000 bytes), logarithmic", "middle"),
        text(20, HEIGHT / 2, "recall@10", "middle", f'transform="rotate(-90 20 {HEIGHT / 2})"'),
        *(part for line in lines for part in drawn(line, axes)),
        *legend(lines),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"
