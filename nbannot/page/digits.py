"""Numbers as people read them: no more decimals than the texts support, "–" where there is no number."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nbannot.measures.result import Result

NONE = "–"
MINUS = "−"
MANY = 1_000
"""From this number of texts on, three decimals are shown; two below it."""

MAY_BE_NEGATIVE = ("kappa", "alpha", "mcc", "ac1", "spearman", "kendall", "pabak", "corrected")
"""Parts of the names of metrics that may fall below 0."""


def decimals(n: int) -> int:
    """Return how many decimals a number from `n` texts is shown with."""
    return 3 if n >= MANY else 2


def number(value: float | None, digits: int = 2, *, low: float = 0.0, high: float = 1.0) -> str:
    """Return a number with so many decimals, "–" for none.

    What is not quite `low` or not quite `high`, the ends of its range, is not rounded to them.

    >>> number(0.4688), number(0.999), number(0.001), number(1.0), number(-0.3), number(float("nan"))
    ('0.47', '>0.99', '<0.01', '1.00', '−0.30', '–')
    """
    if value is None or math.isnan(value):
        return NONE
    shown = f"{value:.{digits}f}"
    step = 10.0**-digits
    if low < value < high and float(shown) == low:
        return f"<{low + step:.{digits}f}".replace("-", MINUS)
    if low < value < high and float(shown) == high:
        return f">{high - step:.{digits}f}"
    return shown.lstrip("-") if float(shown) == 0 else shown.replace("-", MINUS)


def interval(low: float, high: float, digits: int = 2) -> str:
    """Return an interval as ``[0.34, 0.58]``, "–" for none.

    >>> interval(-0.344, 0.579)
    '[−0.34, 0.58]'
    """
    if math.isnan(low) or math.isnan(high):
        return NONE
    return f"[{low:.{digits}f}, {high:.{digits}f}]".replace("-", MINUS)


def value_of(name: str, result: Result) -> str:
    """Return a metric's value as it is shown, e.g. ``"0.47"``, ``"+0.80"`` for a bias."""
    if name == "bias":
        shown = number(result.value, decimals(result.n), low=-math.inf, high=math.inf)
        return f"+{shown}" if result.value > 0 and any(c in "123456789" for c in shown) else shown
    if name.startswith("mae"):
        return number(result.value, decimals(result.n), high=math.inf)
    percent = _is_percent(name)
    low = -math.inf if any(part in name for part in MAY_BE_NEGATIVE) else 0.0
    return number(result.value, decimals(result.n) - percent, low=low, high=100.0 if percent else 1.0)


def interval_of(name: str, result: Result) -> str:
    """Return a metric's interval as it is shown."""
    return interval(result.ci_low, result.ci_high, decimals(result.n) - _is_percent(name))


def _is_percent(name: str) -> bool:
    return name.startswith("bleu") and not name.endswith("corrected")


def share(part: float, whole: float) -> str:
    """Return a part of a whole in per cent, "–" of nothing.

    >>> share(1, 3), share(0, 3), share(999, 1000), share(1, 0)
    ('33%', '0%', '>99%', '–')
    """
    if not whole:
        return NONE
    shown = f"{part / whole:.0%}"
    if part > 0 and shown == "0%":
        return "<1%"
    return ">99%" if part < whole and shown == "100%" else shown


def count(n: float) -> str:
    """Return a whole number with thousands parted."""
    return f"{n:,.0f}"


def duration(seconds: float | None) -> str:
    """Return a time in the units people use.

    >>> [duration(s) for s in (0.0083, 4.21, 75, 7260, None)]
    ['8 ms', '4.2 s', '1 min 15 s', '2 h 1 min', '–']
    """
    if seconds is None:
        return NONE
    if seconds < 0.0995:
        return f"{seconds * 1000:.0f} ms" if seconds >= 0.0005 or not seconds else "<1 ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole % 60 else f"{whole // 60} min"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _scaled(value: float, units: tuple[tuple[float, str], ...]) -> str:
    factor, unit = next(((f, u) for f, u in units if value >= f), units[-1])
    return f"{value / factor:.3g} {unit}"


def money(amount: float, currency: str = "") -> str:
    """Return an amount of money: whole cents from 1 on, two figures below; no currency where none is known.

    >>> money(12.3456, "US$"), money(0.0421, "US$"), money(0.0, "US$"), money(1.5)
    ('US$12.35', 'US$0.042', 'US$0', '1.50')
    """
    return f"{currency}{amount:,.2f}" if amount >= 0.995 else f"{currency}{amount:.2g}"


def energy(kwh: float) -> str:
    """Return an energy in the unit that suits it.

    >>> energy(0.0421), energy(4.3e-9)
    ('42.1 Wh', '0.0043 mWh')
    """
    return _scaled(kwh, ((1.0, "kWh"), (1e-3, "Wh"), (1e-6, "mWh")))


def emissions(kg: float) -> str:
    """Return an amount of CO2 equivalents in the unit that suits it.

    >>> emissions(0.0021)
    '2.1 g CO₂e'
    """
    return _scaled(kg, ((1.0, "kg CO₂e"), (1e-3, "g CO₂e"), (1e-6, "mg CO₂e")))
