"""The pages of tools/leaderboard.py: the tables of irst_stream/docs/methods.md, the plot, and out/leaderboard.html."""

import base64
import html
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from irst_stream.commands.contenders import WHOLE
from irst_stream.docs import FOLDER
from irst_stream.learn.methods import registered
from irst_stream.learn.published import published

__all__ = ["DATA", "PAGE", "page_text", "write_page"]

PAGE, DATA, PLOT = FOLDER / "methods.md", FOLDER / "methods.json", FOLDER / "methods.png"
HTML = Path("out/leaderboard.html")
MARKS = "<!-- tables -->\n", "<!-- end of the tables -->\n"
NOT_TRAINED = "not trained here: `tools/train_methods.py {}`"
APS, OWN = "AP05 / 10 / 15 / 20 / 25", "at its own threshold"
FEWEST_FRAMES = 10_000  # of training, below which a row says nothing of its method
Row = dict[str, Any]
Table = tuple[str, list[str], list[list[str]]]  # title, headings, rows


def write_page(results: dict[str, Any]) -> None:
    """Write the tables between the page's marks, the plot, and both as one HTML file."""
    _plot(results["rows"])
    PAGE.write_text(page_text(results, PAGE.read_text("utf-8")), "utf-8")
    HTML.parent.mkdir(exist_ok=True)
    HTML.write_text(_html(list(_tables(results["rows"]))), "utf-8")


def page_text(results: dict[str, Any], text: str) -> str:
    """The page with these results' tables between its marks."""
    before, _, rest = text.partition(MARKS[0])
    after = rest.partition(MARKS[1])[2]
    return before + MARKS[0] + "\n".join(map(_markdown, _tables(results["rows"]))) + "\n" + MARKS[1] + after


def _tables(rows: dict[str, Row]) -> Iterator[Table]:
    methods = sorted(registered().values(), key=lambda method: (method.family, method.name))
    names = [name for name in (*WHOLE, *(method.name for method in methods)) if name in rows]
    worlds = next(row["worlds"].keys() for row in rows.values() if row["trained"])
    held_out = [world for world in worlds if world not in ("seqcsist", "csist100k")]
    yield (
        "At cell centres",
        ["method", "SeqCSIST", APS, "right number", OWN, "published", "CSIST-100K", APS, OWN, "published"],
        [_at_cells(name, rows[name]) for name in names if name not in ("fit", "default")],
    )  # fmt: skip
    yield (
        "The same map given to the fit",
        ["method", "SeqCSIST", "right number", "CSIST-100K", "right number", *held_out],
        [
            _in_fit(rows[name], _title(name, rows[name]), held_out)
            for name in names
            if rows[name]["trained"] and name != "labels"
        ],
    )
    yield (
        "Held-out worlds at cell centres, cost and training",
        ["method", *held_out, "parameters", "multiply-adds", "windows/s", "frames trained", "minutes", ""],
        [_cost(name, rows[name], held_out) for name in names if name not in ("fit", "default")],
    )


def _title(name: str, row: Row | None = None) -> str:
    """A method as its row is headed, with a mark where it was trained too little to be judged."""
    title = WHOLE[name] if name in WHOLE else registered()[name].title
    return f"{title} †" if row and _barely_trained(row) else title


def _barely_trained(row: Row) -> bool:
    """Tell whether a row saw too few frames; one that goes on from another row is judged by that one."""
    return bool(row.get("frames", FEWEST_FRAMES) < FEWEST_FRAMES and not row["settings"]["start"])


def _at_cells(name: str, row: Row) -> list[str]:
    told = [_published(name, "seqcsist"), _published(name, "csist100k")]
    if not row["trained"]:
        return [_title(name), NOT_TRAINED.format(name), "", "", "", told[0], "", "", "", told[1]]
    mine = {world: row["worlds"][world] for world in ("seqcsist", "csist100k")}

    def part(world: str) -> list[str]:
        cells, best = mine[world]["cells"], mine[world]["best"]
        aps = " / ".join(f"{ap:.1f}" for ap in cells["ap"])
        number = [f"{cells['count']:.0f} %"] if world == "seqcsist" else []
        return [f"**{cells['cso_map']:.2f}**", aps, *number, f"{best['cso_map']:.2f}" if best else ""]

    return [_title(name, row), *part("seqcsist"), told[0], *part("csist100k"), told[1]]


def _published(name: str, dataset: str) -> str:
    """The published CSO-mAP, with a mark where an error explains it; "" where there is none."""
    known = published().get(name)
    if known is None or not (scores := getattr(known, dataset)):
        return ""
    return f"{scores[0]:.2f}" + ("*" if known.accident else "")


def _in_fit(row: Row, title: str, held_out: list[str]) -> list[str]:
    fits = {world: figures["fit"] for world, figures in row["worlds"].items()}
    both = [
        text
        for world in ("seqcsist", "csist100k")
        for text in (f"{fits[world]['cso_map']:.2f}", f"{fits[world]['count']:.0f} %")
    ]
    return [title, *both, *(f"{fits[world]['cso_map']:.2f}" for world in held_out)]


def _cost(name: str, row: Row, held_out: list[str]) -> list[str]:
    start = row.get("settings", {}).get("start", "")
    notes = [start and f"goes on from {start}", row.get("reduced") and f"reduced: {row['reduced']}", _accident(name)]
    if not row["trained"]:
        return [_title(name), *[""] * len(held_out), "", "", "", "", "", NOT_TRAINED.format(name)]
    cells = [f"{row['worlds'][world]['cells']['cso_map']:.2f}" for world in held_out]
    rate = f"{row['rate']:,.0f}" if row.get("rate") else ""
    trained = [f"{row['frames']:,}", f"{row['minutes']:.1f}"] if "frames" in row else ["", ""]
    counts = [_count(row.get("parameters")), _count(row.get("multiply_adds"))]
    return [_title(name, row), *cells, *counts, rate, *trained, "; ".join(note for note in notes if note)]


def _accident(name: str) -> str:
    known = published().get(name)
    return f"* {known.accident}" if known and known.accident else ""


def _count(number: int | None) -> str:
    if not number:
        return ""
    size, unit = next((s, u) for s, u in ((1e9, " G"), (1e6, " M"), (1e3, " K"), (1, "")) if number >= s)
    return f"{number / size:.3g}{unit}"


def _markdown(table: Table) -> str:
    title, headings, rows = table
    lines = [f"| {' | '.join(line)} |" for line in (headings, ["---"] * len(headings), *rows)]
    return f"\n## {title}\n\n" + "\n".join(lines) + "\n"


def _html(tables: list[Table]) -> str:
    def cells(tag: str, line: list[str]) -> str:
        return "<tr>" + "".join(f"<{tag}>{_inline(text)}</{tag}>" for text in line) + "</tr>"

    parts = []
    for title, headings, rows in tables:
        body = "\n".join(cells("td", row) for row in rows)
        parts.append(f"<h2>{html.escape(title)}</h2>\n<table>\n{cells('th', headings)}\n{body}\n</table>")
    image = base64.b64encode(PLOT.read_bytes()).decode()
    style = "body{font:14px sans-serif;margin:2em}td,th{padding:.2em .6em;border-bottom:1px solid #ccc;text-align:left}"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Methods</title><style>{style}</style>'
        f'<h1>Methods</h1><img alt="accuracy over speed" src="data:image/png;base64,{image}">\n'
        + "\n".join(parts)
        + "</html>\n"
    )


def _inline(text: str) -> str:
    """Markdown's bold and code as HTML."""
    for mark, tag in (("**", "b"), ("`", "code")):
        if text.count(mark) == 2:
            first, middle, last = text.split(mark)
            return f"{html.escape(first)}<{tag}>{html.escape(middle)}</{tag}>{html.escape(last)}"
    return html.escape(text)


def _plot(rows: dict[str, Row]) -> None:
    """Accuracy over speed: each network's map at cell centres, and given to the fit."""
    figure = Figure(figsize=(11, 5.5), layout="constrained")
    at_cells, fitted = figure.subplots(1, 2)
    for name, row in rows.items():
        if _barely_trained(row):
            continue
        if row["trained"] and row.get("rate"):
            seqcsist = row["worlds"]["seqcsist"]
            _point(at_cells, name, row["rate"], seqcsist["cells"]["cso_map"])
            _point(fitted, name, 1 / (1 / row["rate"] + 1 / seqcsist["fit_rate"]), _held_out_mean(row))
        elif row["trained"] and name != "labels":
            _point(fitted, name, row["worlds"]["seqcsist"]["fit_rate"], _held_out_mean(row))
    at_cells.set(title="map read at cell centres, SeqCSIST", ylim=(0, 66))
    fitted.set(title="map given to the fit, mean of the held-out worlds", ylim=(70, 90))
    for axes in (at_cells, fitted):
        axes.set(xscale="log", xlabel="windows/s on one core", ylabel="CSO-mAP, %")
        axes.grid(alpha=0.25)
    figure.savefig(PLOT, dpi=90)


def _point(axes: Any, name: str, rate: float, score: float) -> None:
    """One method; names that would lie on others are turned."""
    own = name in WHOLE
    axes.plot(rate, score, "o", markersize=5, color="#ff6a00" if own else "#006d9c")
    title = name if own else registered()[name].title.partition(" (")[0]
    axes.annotate(title, (rate, score), (3, 4), textcoords="offset points", fontsize=7, rotation=55)


def _held_out_mean(row: Row) -> float:
    scores = [
        figures["fit"]["cso_map"] for world, figures in row["worlds"].items() if world not in ("seqcsist", "csist100k")
    ]
    return float(sum(scores) / len(scores))
