"""The ratios as a small SVG: one bar a row; the line at 1 is the other system, a tick is what is aimed at."""

from xml.sax.saxutils import escape

WIDTH, LEFT, ROW, TOP = 720, 250, 30, 46
BAR, AIM, INK, FAINT = "#2f6f9f", "#c0392b", "#222", "#bbb"


def chart(rows, title, path):
    """rows: (label, ratio, aim or None). Larger is better in all of them."""
    top = max([r for _, r, _ in rows] + [a for _, _, a in rows if a] + [1]) * 1.12
    scale = (WIDTH - LEFT - 20) / top
    height = TOP + ROW * len(rows) + 30
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="13">',
           f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
           f'<text x="12" y="24" font-size="15" fill="{INK}">{escape(title)}</text>']
    one = LEFT + scale
    bottom = TOP + ROW * len(rows)
    out.append(f'<line x1="{one:.1f}" y1="{TOP - 8}" x2="{one:.1f}" y2="{bottom}" stroke="{FAINT}" stroke-dasharray="4 3"/>')
    for i, (label, ratio, aim) in enumerate(rows):
        y = TOP + ROW * i
        out.append(f'<text x="{LEFT - 10}" y="{y + 15}" text-anchor="end" fill="{INK}">{escape(label)}</text>')
        out.append(f'<rect x="{LEFT}" y="{y + 2}" width="{ratio * scale:.1f}" height="18" fill="{BAR}"/>')
        out.append(f'<text x="{LEFT + ratio * scale + 6:.1f}" y="{y + 15}" fill="{INK}">{ratio:.1f}x</text>')
        if aim:
            x = LEFT + aim * scale
            out.append(f'<line x1="{x:.1f}" y1="{y - 1}" x2="{x:.1f}" y2="{y + 23}" stroke="{AIM}" stroke-width="2"/>')
    out.append(f'<text x="{one:.1f}" y="{bottom + 18}" text-anchor="middle" font-size="11" fill="{INK}">1x</text>')
    out.append(f'<text x="{WIDTH - 12}" y="{bottom + 18}" text-anchor="end" font-size="11" fill="{AIM}">red: aimed at</text>')
    out.append("</svg>")
    with open(path, "w") as f:
        f.write("\n".join(out) + "\n")
