#!/usr/bin/env python3
"""Draws what the dashboard shows: `chart/picture.py PROMETHEUS-URL MINUTES [END] > docs/dashboard.png`. It needs matplotlib.

No Grafana takes part. The panels, their places, queries, units and legends are those of dashboard.json, the data are what Prometheus
answers to the queries, and the rest is meant to look much like Grafana's dark theme.
"""

import io
import json
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path

import matplotlib
from PIL import Image

matplotlib.use("agg")
from matplotlib import pyplot  # noqa: E402: the backend is chosen first

PROMETHEUS, MINUTES = sys.argv[1], int(sys.argv[2])
END = int(sys.argv[3]) if len(sys.argv) > 3 else int(time.time())
START = END - 60 * MINUTES
STEP = max(5, 60 * MINUTES // 300)
COLORS = ["#73bf69", "#f2cc0c", "#5794f2", "#ff9830", "#f2495c", "#b877d9", "#8ab8ff", "#fade2a", "#96d98d", "#ffa6b0"]
# Some of the colours that Grafana has names for.
NAMED = {
    "green": "#73bf69", "yellow": "#fade2a", "orange": "#ff9830", "light-orange": "#ffb357", "red": "#f2495c", "dark-red": "#c4162a",
    "purple": "#b877d9", "light-purple": "#ca95e5", "blue": "#5794f2", "light-blue": "#8ab8ff",
}
PAGE, PANEL, TEXT, FAINT = "#111217", "#181b1f", "#ccccdc", "#2c3036"
# Pixels of a unit of the grid, in width and height.
UNIT = (62, 27)


def ask(path, query, **more):
    query = query.replace("$__rate_interval", "30s").replace("$__range", f"{MINUTES}m")
    for name in ("namespace", "job", "queue_name", "function_name"):
        query = query.replace("$" + name, ".*")
    with urllib.request.urlopen(f"{PROMETHEUS}/api/v1/{path}?{urllib.parse.urlencode({'query': query} | more)}") as answer:
        return json.load(answer)["data"]["result"]


def written(value, unit):
    """A value as Grafana writes it."""
    if value != value:
        return "-"
    if unit == "percentunit":
        return f"{100 * value:.3g} %"
    if unit == "s":
        return next(f"{value * factor:.3g} {name}" for least, factor, name in [(60, 1 / 60, "min"), (1, 1, "s"), (0, 1000, "ms")] if value >= least or not least)
    if unit == "ops":
        return f"{value:.3g}/s"
    return f"{value:.3g}" if value < 1000 else f"{value / 1000:.3g} K"


def legend(template, labels):
    for name in labels:
        template = template.replace("{{" + name + "}}", labels[name])
    return " ".join(word for word in template.split() if "{{" not in word)


def begun():
    """When alerts began to fire: the annotations."""
    times = set()
    for series in ask("query_range", 'ALERTS{alertname=~"QueueWorker.+",alertstate="firing"}', start=START, end=END, step=STEP):
        times.add(int(series["values"][0][0]))
    return times


def states(axes, panel):
    """A bar for each series, in the colour of each of its values."""
    found = ask("query_range", panel["targets"][0]["expr"], start=START, end=END, step=STEP)
    names = [legend(panel["targets"][0]["legendFormat"], series["metric"]) for series in found]
    for n, series in enumerate(found):
        for at, value in series["values"]:
            axes.barh(n, 1.5 * STEP, left=float(at), height=0.8, color=NAMED["green" if float(value) else "red"])
    axes.set_xlim(START, END)
    axes.set_yticks(range(len(names)), [name.rsplit(" ")[-1] for name in names])
    dress(axes)
    axes.grid(visible=False)


def graph(axes, panel):
    options = panel["fieldConfig"]["defaults"]
    custom, unit = options["custom"], options["unit"]
    times = list(range(START, END + 1, STEP))
    names, rows = [], []
    for target in panel["targets"]:
        for series in ask("query_range", target["expr"], start=START, end=END, step=STEP):
            found = {int(at): float(value) for at, value in series["values"]}
            names.append(legend(target["legendFormat"], series["metric"]))
            rows.append([found.get(at, float("nan")) for at in times])
    stacked = custom["stacking"]["mode"] == "normal"
    below = [0.0] * len(times)
    fixed = {one["matcher"]["options"]: NAMED[one["properties"][0]["value"]["fixedColor"]] for one in panel["fieldConfig"]["overrides"]}
    colors = [fixed.get(name, color) for name, color in zip(names, COLORS * 3)]
    for row, color in zip(rows, colors):
        top = [b + (value if value == value else 0) for b, value in zip(below, row)] if stacked else row
        if custom["drawStyle"] == "bars":
            axes.bar(times, [t - b for t, b in zip(top, below)], width=STEP * 2, bottom=below, color=color)
        else:
            axes.plot(times, top, color=color, linewidth=1)
            axes.fill_between(times, below, top, color=color, alpha=custom["fillOpacity"] / 100, linewidth=0)
        below = top if stacked else below
    axes.set_xlim(START, END)
    axes.set_ylim(bottom=0, top=options.get("max"))
    if axes.get_ylim()[1] < 1 and unit in ("short", "none"):
        axes.set_ylim(top=1)
    ticks = [tick for tick in axes.get_yticks() if 0 <= tick <= axes.get_ylim()[1]][::2]
    axes.set_yticks(ticks, [written(tick, unit) for tick in ticks])
    for at in ALERTS:
        axes.axvline(at, color=NAMED["red"], linewidth=0.8, linestyle=(0, (3, 3)))
    dress(axes)
    return list(zip(names, colors))


def dress(axes):
    ticks = [at for at in range(START, END) if at % 120 == 0]
    axes.set_xticks(ticks, [time.strftime("%H:%M", time.gmtime(at)) for at in ticks])
    axes.tick_params(colors=TEXT, labelsize=6.5, length=0)
    axes.grid(color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_visible(False)


ALERTS = begun()


def draw():
    panels = json.loads((Path(__file__).parent / "queue-worker/files/dashboard.json").read_text())["panels"]
    bottom = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    width, height = 24 * UNIT[0], bottom * UNIT[1]
    figure = pyplot.figure(figsize=(width / 100, height / 100), dpi=100, facecolor=PAGE)

    def place(panel, left=0, top=0, right=0, low=0):
        """A rectangle within a panel, so many pixels from its edges."""
        x, y, w, h = (panel["gridPos"][side] for side in "xywh")
        return [
            (x * UNIT[0] + left) / width, (height - (y + h) * UNIT[1] + low) / height,
            (w * UNIT[0] - left - right) / width, (h * UNIT[1] - top - low) / height,
        ]

    for panel in panels:
        if panel["type"] == "row":
            x, y, _, h = place(panel, left=8)
            figure.text(x, y + h / 2, "⌄  " + panel["title"], color=TEXT, fontsize=10, weight="bold", va="center")
            continue
        card = figure.add_axes(place(panel, 4, 4, 4, 4), facecolor=PANEL, xticks=[], yticks=[])
        for spine in card.spines.values():
            spine.set_color(FAINT)
        card.text(0, 1, "  " + panel["title"], transform=card.transAxes, color=TEXT, fontsize=8.5, va="top", linespacing=2.2)
        if panel["type"] == "state-timeline":
            states(figure.add_axes(place(panel, 90, 32, 16, 46), facecolor="none"), panel)
            continue
        if panel["type"] == "timeseries":
            axes = figure.add_axes(place(panel, 54, 32, 16, 46), facecolor="none")
            x = 0.02
            for name, color in graph(axes, panel):
                if x > 0.93:
                    break
                label = card.text(x, 0.045, "▬ ", transform=card.transAxes, color=color, fontsize=7, va="center")
                label = card.annotate(name, (1, 0), xycoords=label, color=TEXT, fontsize=7, va="bottom")
                x = card.transAxes.inverted().transform(label.get_window_extent(figure.canvas.get_renderer()))[1][0] + 0.025
            card.set_clip_on(True)
            continue
        target, options = panel["targets"][0], panel["fieldConfig"]["defaults"]
        found = ask("query", target["expr"], time=END)
        if panel["type"] == "table":
            rows = [[one["metric"].get(name, "") for name in ("cause", "function_name", "queue_name")] + [one["value"][1]] for one in found]
            for n, row in enumerate([["cause", "function_name", "queue_name", "about"]] + rows[:8]):
                for at, cell in zip((0.03, 0.24, 0.64, 0.88), row):
                    card.text(at, 0.84 - 0.095 * n, cell, transform=card.transAxes, color="#6e9fff" if n == 0 else TEXT, fontsize=7, va="top")
        elif found:
            value = float(found[0]["value"][1])
            color = [step["color"] for step in options["thresholds"]["steps"] if step["value"] is None or value >= step["value"]][-1]
            card.text(0.5, 0.42, written(value, options["unit"]), transform=card.transAxes, color=NAMED[color], fontsize=20, ha="center", va="center")
    page = io.BytesIO()
    figure.savefig(page, format="png", facecolor=PAGE)
    # Few colours, so that the file is small.
    Image.open(page).convert("RGB").quantize(255, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(sys.stdout.buffer, format="PNG", optimize=True)


draw()
