r"""Tables of a page as LaTeX for a journal: booktabs rules, at most seven columns, nothing that only a machine reads.

What a table draws (bars, scales) and the names that numbers have on disk are left out; a number without a heading of
its own goes in with the one before it: 0.96 [0.82, 0.99], 30 (50%).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from nbannot.errors import harmless
from nbannot.page.blocks import Block, Fold, Grid, Heading, Section, as_cell
from nbannot.page.markdown import joined

COLUMNS_AT_MOST = 7
HEADING_CHARS = 14
FOR_MACHINES = ("in the tables",)
"""Columns for those who compute on: not in a journal."""
LATEX = str.maketrans(
    {
        **{character: f"\\{character}" for character in "{}&%$#_"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
    }
)
SIGNS = str.maketrans(
    {
        "−": "$-$", "±": r"$\pm$", "≈": r"$\approx$", "▲": r"$\uparrow$", "▼": r"$\downarrow$", "→": r"$\rightarrow$",
        "↓": r"$\downarrow$", "↑": r"$\uparrow$", "·": r"$\cdot$", "×": r"$\times$", "≤": r"$\leq$", "≥": r"$\geq$",
        "░": "", "ε": r"$\varepsilon$", "α": r"$\alpha$", "κ": r"$\kappa$", "ω": r"$\omega$", "ρ": r"$\rho$",
        "φ": r"$\phi$", "τ": r"$\tau$", "◆": r"$\ast$", "…": r"\ldots{}", "–": "--", "“": "``", "”": "''",
        **{sign: f"$^{{{i}}}$" for i, sign in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")},
    }
)  # fmt: skip
"""Signs of our pages that LaTeX's usual fonts lack."""


def latex_text(text: str) -> str:
    """Return a text on one line in which LaTeX sees no command."""
    return re.sub(r"-(?=-)", "-{}", harmless(" ".join(text.split())).translate(LATEX))


def tables_latex(
    blocks: Iterable[Block], caption: str | None = None, label: str | None = None, note: str = ""
) -> str:
    r"""Return every table of a page as LaTeX (``\usepackage{booktabs}``), each in a ``table`` environment.

    Parameters
    ----------
    caption, label
        Of the first table; the others are called by their caption on the page, or by the heading above them.
    note
        A sentence below each table.
    """
    tables = []
    for place, (grid, title) in enumerate(_grids(blocks, "")):
        own = ": ".join(filter(None, (title, grid.caption)))
        text = caption if caption is not None and place == 0 else own
        named = label if place == 0 else f"{label}-{place + 1}" if label else None
        tables.append(grid_latex(grid, text, named, note))
    return "\n".join(tables)


def first_table_latex(blocks: Iterable[Block], caption: str | None = None, label: str | None = None) -> str:
    """Return the first table of a page as LaTeX; see `tables_latex`."""
    return grid_latex(next(block for block in blocks if isinstance(block, Grid)), caption, label)


def grid_latex(grid: Grid, caption: str | None = None, label: str | None = None, note: str = "") -> str:
    """Return one table of a page as LaTeX; see `tables_latex`."""
    header, rows, align = _for_a_journal(grid)
    lines = [rf"\begin{{tabular}}{{{align.replace('i', 'l')}}}", r"\toprule"]
    lines += [latex_row(map(_head, header, align)), r"\midrule"] if any(header) else []
    for row in rows:
        if isinstance(row, str):
            lines.append(rf"\multicolumn{{{len(align)}}}{{l}}{{\quad {_cell(row)}}} \\")
        else:
            lines.append(latex_row(map(_cell, row)))
    lines += [r"\bottomrule", r"\end{tabular}"]
    kept = [words for words in grid.notes if not _of_left_out(words, grid, header)]
    for words in [*kept, *([note] if note else [])]:
        lines += ["", rf"\smallskip {{\footnotesize {_cell(words)}}}"]
    head = [r"\begin{table}", r"\centering", *([r"\small"] if len(align) >= COLUMNS_AT_MOST else [])]
    head += [rf"\caption{{{_cell(caption)}}}"] if caption else []
    head += [rf"\label{{{label}}}"] if label else []
    return "\n".join([*head, *lines, r"\end{table}"]) + "\n"


def _of_left_out(words: str, grid: Grid, header: Sequence[str]) -> bool:
    """Return whether a note explains columns, ``FPR, FNR: ...``, that a journal's table has no room for."""
    named = words.partition(": ")[0].split(", ")
    columns = {as_cell(cell).text for cell in grid.header}
    return all(name in columns and name not in header for name in named)


def _grids(blocks: Iterable[Block], title: str) -> Iterator[tuple[Grid, str]]:
    """Yield every table of a page with the heading above it, those of plots, too."""
    for block in blocks:
        if isinstance(block, Heading):
            title = f"{block.text}, {block.aside}" if block.aside and block.level > 1 else block.text
        elif isinstance(block, Grid):
            yield block, title
        elif isinstance(block, Section):
            yield from _grids(block.blocks, block.title)
        elif isinstance(block, Fold):
            yield from _grids(block.blocks, ": ".join(filter(None, (title, block.title))))
        elif isinstance(twin := getattr(block, "twin", None), Grid):
            yield twin, title


def _for_a_journal(grid: Grid) -> tuple[list[str], list[list[str] | str], str]:
    """Return header, rows and alignment with at most seven columns, of a matrix all; those at the right go first."""
    header, rows, align = joined(grid)
    kept = [i for i, cell in enumerate(header) if cell.text not in FOR_MACHINES]
    matrix = any(cell.tint for row in rows if not isinstance(row, str) for cell in row)
    if not matrix:  # a matrix without some of its labels would be another one
        kept = kept[:COLUMNS_AT_MOST]
    short: list[list[str] | str] = [
        row if isinstance(row, str) else [row[i].text for i in kept] for row in rows
    ]
    return [header[i].text for i in kept], short, "".join(align[i] for i in kept)


def latex_row(cells: Iterable[str]) -> str:
    r"""Return one row; ``[`` and ``*`` at its start are kept from being read as an option of the ``\\`` before."""
    row = " & ".join(cells)
    return rf"{{{row[0]}}}{row[1:]} \\" if row.startswith(("[", "*")) else rf"{row} \\"


def _head(text: str, align: str) -> str:
    """Return a heading, a long one on two lines."""
    if len(text) <= HEADING_CHARS or " " not in text:
        return _cell(text)
    middle = min(re.finditer(" ", text), key=lambda space: abs(space.start() - len(text) / 2)).start()
    place = "r" if align == "r" else "l"
    return rf"\shortstack[{place}]{{{_cell(text[:middle])} \\ {_cell(text[middle:])}}}"


def _cell(text: str) -> str:
    return latex_text(text).translate(SIGNS)
