"""Accuracy against epsilon, or against time, drawn as SVG."""

import html
from collections.abc import Mapping

from keras_free_adv import validation

WIDTH, HEIGHT = 640, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 16, 16, 40
_COLORS = 5  # of the page; more curves share them
_LINE = 20  # height of a line of the legend

Points = list[tuple[float, float]]


def accuracy_curve(accuracy: Mapping[float, float]) -> str:
    """A line through robust accuracies.

    Args:
        accuracy: epsilon to robust accuracy, a share.

    Returns:
        An `<svg>` element. Colors are those of the page: `--bar` and `--line`.

    Raises:
        TypeError, ValueError: an epsilon or a share is none.

    Example:
    >>> accuracy_curve({0.0: 1.0, 0.1: 0.5})[:4]
    '<svg'
    """
    return accuracy_curves({"": accuracy}, "epsilon")


def accuracy_curves(curves: Mapping[str, Mapping[float, float]], xlabel: str) -> str:
    """A line for each name, and a legend if there are several.

    Args:
        curves: name to {where on the axis: accuracy, a share}.
        xlabel: what the axis is of.

    Returns:
        An `<svg>` element. Colors are those of the page: `--bar`, `--curve1` and so on,
        and `--line`.

    Raises:
        TypeError, ValueError: a place on the axis or a share is none.

    Example:
    >>> svg = accuracy_curves({"a": {1: 0.5}, "b": {1: 0.2}}, "minutes")
    >>> svg.count("<polyline")
    2
    """
    points = {
        name: sorted((_number(x), _share(share)) for x, share in curve.items())
        for name, curve in curves.items()
    }
    most = max(x for curve in points.values() for x, _ in curve) or 1.0
    across, up = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM
    places = {
        name: [(_LEFT + across * x / most, _TOP + up * (1 - share)) for x, share in of]
        for name, of in points.items()
    }
    levels = "".join(
        _level(level, _TOP + up * (1 - level)) for level in (0, 0.25, 0.5, 0.75, 1)
    )
    lines = "".join(
        _curve(name, points[name], places[name], xlabel, _color(number))
        for number, name in enumerate(points)
    )
    longest = max(points, key=lambda name: points[name][-1])
    legend = _legend(list(points)) if len(points) > 1 else ""
    height = HEIGHT + _LINE * bool(legend)
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" role="img" '
        f'aria-label="accuracy against {html.escape(xlabel)}">{levels}{lines}'
        f"{_ticks(points[longest], places[longest])}"
        f'<text x="{_LEFT + across / 2}" y="{HEIGHT - 4}" text-anchor="middle">'
        f"{html.escape(xlabel)}</text>{legend}</svg>"
    )


def _number(value: float) -> float:
    return validation.not_negative("curve", value)


def _share(share: float) -> float:
    value = validation.not_negative("curve", share)
    if value > 1:
        raise ValueError(
            "Argument `curve` must map epsilon to an accuracy between 0 and 1. "
            f"Received: {share!r}. Divide percent by 100."
        )
    return value


def _color(number: int) -> str:
    number %= _COLORS
    return f"var(--curve{number})" if number else "var(--bar)"


def _curve(name: str, points: Points, at: Points, xlabel: str, color: str) -> str:
    """A line with a mark at each point, which tells its numbers."""
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
    start = html.escape(f"{name}, {xlabel}" if name else xlabel)
    marks = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{color}"><title>{start} '
        f"{place:.4g}: {share:.1%}</title></circle>"
        for (x, y), (place, share) in zip(at, points, strict=True)
    )
    return (
        f'<polyline points="{line}" fill="none" stroke="{color}" stroke-width="2"/>'
        f"{marks}"
    )


def _legend(names: list[str]) -> str:
    """The names under the drawing, beside their colors."""
    width = (WIDTH - _LEFT - _RIGHT) / len(names)
    return "".join(
        f'<circle cx="{_LEFT + number * width + 6:.1f}" cy="{HEIGHT + 10}" r="5" '
        f'fill="{_color(number)}"/><text x="{_LEFT + number * width + 16:.1f}" '
        f'y="{HEIGHT + 14}">{html.escape(name)}</text>'
        for number, name in enumerate(names)
    )


def _level(level: float, y: float) -> str:
    return (
        f'<line x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" '
        f'stroke="var(--line)"/><text x="{_LEFT - 8}" y="{y + 4:.1f}" '
        f'text-anchor="end">{level:.0%}</text>'
    )


def _ticks(points: Points, at: Points) -> str:
    """Numbers under the points that have room for one."""
    ticks, last = [], -float(WIDTH)
    for (place, _), (x, _) in zip(points, at, strict=True):
        if x - last >= 48:
            ticks.append(
                f'<text x="{x:.1f}" y="{HEIGHT - _BOTTOM + 18}" text-anchor="middle">'
                f"{place:.3g}</text>"
            )
            last = x
    return "".join(ticks)
