"""Accuracy against epsilon, drawn as SVG."""

from collections.abc import Mapping

from keras_free_adv import validation

WIDTH, HEIGHT = 640, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 16, 16, 40


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
    points = []
    for epsilon, share in sorted(accuracy.items()):
        points.append((_number(epsilon), _share(share)))
    most = max(epsilon for epsilon, _ in points) or 1.0
    across, up = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM
    at = [
        (_LEFT + across * epsilon / most, _TOP + up * (1 - share))
        for epsilon, share in points
    ]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
    marks = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="var(--bar)"><title>epsilon '
        f"{epsilon:.4g}: {share:.1%}</title></circle>"
        for (x, y), (epsilon, share) in zip(at, points, strict=True)
    )
    levels = "".join(
        _level(level, _TOP + up * (1 - level)) for level in (0, 0.25, 0.5, 0.75, 1)
    )
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" role="img" '
        f'aria-label="accuracy against epsilon">{levels}'
        f'<polyline points="{line}" fill="none" stroke="var(--bar)" stroke-width="2"/>'
        f"{marks}{_ticks(points, at)}"
        f'<text x="{_LEFT + across / 2}" y="{HEIGHT - 4}" text-anchor="middle">'
        "epsilon</text></svg>"
    )


def _number(epsilon: float) -> float:
    return validation.not_negative("curve", epsilon)


def _share(share: float) -> float:
    value = validation.not_negative("curve", share)
    if value > 1:
        raise ValueError(
            "Argument `curve` must map epsilon to an accuracy between 0 and 1. "
            f"Received: {share!r}. Divide percent by 100."
        )
    return value


def _level(level: float, y: float) -> str:
    return (
        f'<line x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" '
        f'stroke="var(--line)"/><text x="{_LEFT - 8}" y="{y + 4:.1f}" '
        f'text-anchor="end">{level:.0%}</text>'
    )


def _ticks(points: list[tuple[float, float]], at: list[tuple[float, float]]) -> str:
    """Numbers under the points that have room for one."""
    ticks, last = [], -float(WIDTH)
    for (epsilon, _), (x, _) in zip(points, at, strict=True):
        if x - last >= 48:
            ticks.append(
                f'<text x="{x:.1f}" y="{HEIGHT - _BOTTOM + 18}" text-anchor="middle">'
                f"{epsilon:.3g}</text>"
            )
            last = x
    return "".join(ticks)
