"""Small SVGs. chart(): ratios as bars, on a log scale; the line at 1 is the other system, a tick is what is aimed at.
curve(): how cost grows, a panel for each unit, both axes logarithmic."""

import math

from xml.sax.saxutils import escape

WIDTH, LEFT, ROW, TOP = 760, 290, 30, 46
BAR, AIM, INK, FAINT = "#2f6f9f", "#c0392b", "#222", "#bbb"


PANEL, PLOT, GAP, EDGE = 330, 190, 84, 66
COLORS = ("#2f6f9f", "#c0392b", "#2e8b57", "#8e6bb0", "#c98a1b", "#555")


def text(x, y, what, anchor="start", size=13, color=INK):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{color}">{escape(what)}</text>'


def line(x1, y1, x2, y2, color=FAINT, more=""):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{color}" {more}/>'


def frame(width, height, title):
    return [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="13">',
            f'<rect width="{width}" height="{height}" fill="#fff"/>', text(12, 24, title, size=15)]


def write(path, out):
    with open(path, "w") as f:
        f.write("\n".join(out + ["</svg>"]) + "\n")


def chart(rows, title, path):
    """rows: (label, ratio, aim or None). Larger is better in all of them."""
    values = [r for _, r, _ in rows] + [a for _, _, a in rows if a] + [1]
    low, high = math.log10(min(min(values) * 0.9, 0.9)), math.log10(max(values) * 1.5)
    scale = (WIDTH - LEFT - 50) / (high - low)

    def x(v):
        return LEFT + (math.log10(v) - low) * scale
    bottom = TOP + ROW * len(rows)
    out = frame(WIDTH, bottom + 30, title)
    for mark in (0.1, 1, 10, 100, 1000):
        if low <= math.log10(mark) <= high:
            out.append(line(x(mark), TOP - 8, x(mark), bottom, INK if mark == 1 else FAINT, 'stroke-dasharray="4 3"'))
            out.append(text(x(mark), bottom + 18, f"{mark:g}x", "middle", 11))
    for i, (label, ratio, aim) in enumerate(rows):
        y = TOP + ROW * i
        left, right = sorted((x(1), x(ratio)))
        out.append(text(LEFT - 10, y + 15, label, "end"))
        out.append(f'<rect x="{left:.1f}" y="{y + 2}" width="{max(right - left, 1):.1f}" height="18" fill="{BAR if ratio >= 1 else AIM}"/>')
        out.append(text(right + 6, y + 15, f"{ratio:.3g}x"))
        if aim:
            out.append(line(x(aim), y - 1, x(aim), y + 23, AIM, 'stroke-width="2"'))
    out.append(text(WIDTH - 12, bottom + 18, "red: aimed at", "end", 11, AIM))
    write(path, out)


def short(v):
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if v >= limit:
            return f"{v / limit:g}{unit}"
    return f"{v:g}"


def decades(values):
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return low, max(high, low + 1)


def panel(points, x_label, y_label, lines, left, top):
    """lines: (key, label). Both axes logarithmic; what is nothing or missing is left out."""
    out = []
    drawn = [(label, [(p["x"], p[key]) for p in points if p.get(key)]) for key, label in lines]
    drawn = [(label, dots) for label, dots in drawn if dots]
    if not drawn:
        return out
    xs, ys = decades([p["x"] for p in points]), decades([v for _, dots in drawn for _, v in dots])

    def x(v):
        return left + EDGE + (math.log10(v) - xs[0]) / (xs[1] - xs[0]) * (PANEL - EDGE)

    def y(v):
        return top + PLOT - (math.log10(v) - ys[0]) / (ys[1] - ys[0]) * PLOT
    for e in range(xs[0], xs[1] + 1):
        out += [line(x(10 ** e), top, x(10 ** e), top + PLOT), text(x(10 ** e), top + PLOT + 16, short(10 ** e), "middle", 11)]
    for e in range(ys[0], ys[1] + 1):
        out += [line(left + EDGE, y(10 ** e), left + PANEL, y(10 ** e)), text(left + EDGE - 6, y(10 ** e) + 4, short(10 ** e), "end", 11)]
    out.append(text(left + EDGE + (PANEL - EDGE) / 2, top + PLOT + 34, x_label, "middle", 12))
    out.append(f'<text transform="translate({left + 14} {top + PLOT / 2}) rotate(-90)" text-anchor="middle" font-size="12" fill="{INK}">{escape(y_label)}</text>')
    for i, (label, dots) in enumerate(drawn):
        color = COLORS[i % len(COLORS)]
        out.append(f'<polyline fill="none" stroke="{color}" stroke-width="2" points="' + " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in dots) + '"/>')
        out += [f'<circle cx="{x(a):.1f}" cy="{y(b):.1f}" r="3" fill="{color}"/>' for a, b in dots]
        if len(drawn) > 1:
            out.append(text(left + EDGE + 8, top + 14 + 15 * i, label, size=11, color=color))
    return out


def curve(points, title, x_label, lines, path):
    """lines: (key of the points, label, unit); lines of one unit share a panel. Three panels a row."""
    units = []
    for _, _, unit in lines:
        if unit not in units:
            units.append(unit)
    columns = min(len(units), 3)
    row_height = PLOT + GAP
    out = frame(columns * (PANEL + 24) + 24, 44 + row_height * math.ceil(len(units) / columns), title)
    for i, unit in enumerate(units):
        mine = [(key, label) for key, label, u in lines if u == unit]
        out += panel(points, x_label, unit, mine, 12 + (i % columns) * (PANEL + 24), 44 + (i // columns) * row_height)
    write(path, out)
