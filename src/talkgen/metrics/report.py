"""A table as one html file that needs no other: numbers, pictures, a video with sound."""

from __future__ import annotations

import base64
import html
from pathlib import Path

from talkgen.metrics.published import PublishedTable
from talkgen.metrics.table import Table

LARGEST_VIDEO_BYTES = 8_000_000
"""A longer sample video stays beside the page and is linked."""

STYLE = """
:root { color-scheme: light dark; --line: #8885; --soft: #8882; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 96rem; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: Canvas; }
thead th { vertical-align: bottom; border-bottom-width: 2px; }
td small { opacity: .65; display: block; }
.best { font-weight: 700; background: var(--soft); } .tied { background: var(--soft); }
.absent { opacity: .45; }
.published { border-left: 4px solid var(--line); padding-left: 1rem; opacity: .85; }
p.note, p.protocol { max-width: 72rem; }
p.protocol { font-size: .85rem; opacity: .8; overflow-wrap: anywhere; }
img, video { max-width: 100%; border-radius: 4px; }
"""


def html_page(table: Table, folder: Path) -> str:
    """The page; pictures and video are those of ``folder``, put into the file itself.

    Args:
        table: what was measured.
        folder: where ``sheet.png`` and ``sample.mp4`` lie; either may be absent.
    """
    title = html.escape(table.title)
    parts = [
        '<!doctype html><html lang="en"><meta charset="utf-8">',
        f'<meta name="viewport" content="width=device-width"><title>{title}</title><style>{STYLE}</style>',
        f"<h1>{title}</h1>",
        _measured(table),
        *(f'<p class="note">{html.escape(note)}</p>' for note in table.every_note()),
        f'<p class="protocol">Protocol: {html.escape(table.protocol.line())}</p>',
        *_pictures(folder),
        *map(_published, table.published),
        "</html>\n",
    ]
    return "\n".join(parts)


def _measured(table: Table) -> str:
    heads = "".join(f"<th>{html.escape(column.heading)}</th>" for column in table.columns)
    lines = []
    for row in table.rows:
        cells = []
        for column in table.columns:
            number, _, interval = table.text(row, column).partition(" ")
            mark = table.marks.get((row.name, column.name), "")
            kind = "absent" if row.cells[column.name].value is None else mark
            small = f"<small>{html.escape(interval)}</small>" if interval else ""
            cells.append(f'<td class="{kind}">{html.escape(number)}{small}</td>')
        lines.append(f"<tr><td>{html.escape(row.name)}</td><td>{row.clips}</td>{''.join(cells)}</tr>")
    body = "".join(lines)
    return (
        f'<div class="wide"><table><thead><tr><th></th><th>n</th>{heads}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _pictures(folder: Path) -> list[str]:
    parts = []
    sheet, video = folder / "sheet.png", folder / "sample.mp4"
    if sheet.is_file():
        parts.append("<h2>A frame of each clip</h2>")
        parts.append(f'<img alt="a frame of each clip, by every row" src="{_embedded(sheet, "image/png")}">')
    if video.is_file():
        small = video.stat().st_size <= LARGEST_VIDEO_BYTES
        source = _embedded(video, "video/mp4") if small else video.name
        parts.append("<h2>The first clip</h2>")
        parts.append(f'<video controls src="{source}"></video>')
    return parts


def _embedded(file: Path, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(file.read_bytes()).decode()}"


def _published(block: PublishedTable) -> str:
    heads = "".join(f"<th>{html.escape(name)}</th>" for name in ("", *block.columns))
    lines = "".join(
        f"<tr>{''.join(f'<td>{html.escape(value)}</td>' for value in (name, *values))}</tr>"
        for name, values in block.rows.items()
    )
    notes = "".join(f'<p class="note">{html.escape(text)}</p>' for text in (block.source, *block.notes))
    return (
        f'<section class="published"><h2>As published: {html.escape(block.title)}</h2>'
        f'<div class="wide"><table><thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table></div>'
        f"{notes}</section>"
    )
