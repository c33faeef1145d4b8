"""The rows of docs/results/bench.json, the table on the terminal and the chart of the README."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from tests.bench.meter import Cost

BARS = (("agent", "etcd-agent"), ("zstd", "save, status, zstd, aws s3 cp"), ("today", "save, status, aws s3 cp"))
PAGE_NOTE = (
    "etcd's three members, the S3 server, a steady writer and who is measured share the processors. Medians of rounds "
    "in which each runs once, in turn; in brackets the smallest and the largest ratio. `floor` is a bare `etcdctl "
    "snapshot save` in the same round: no way that saves by etcdctl takes less."
)
PAGE_HEAD = (
    "| size MB | link | S3 server | rounds | of today | floor | of zstd | floor | of bare save | p99 put of bare save "
    "| longest put of bare save | peak MB | agent s | today s | zstd s | save s |"
)
COLOURS = {"agent": "#2a7a4f", "zstd": "#8a8f98", "today": "#c3c7cd"}


class Round(Protocol):
    """One run of each contestant."""

    @property
    def costs(self) -> Mapping[str, Cost]: ...

    @property
    def puts_s(self) -> Mapping[str, Sequence[float]]: ...


class Setting(Protocol):
    """What a row was measured on."""

    @property
    def size_mb(self) -> int: ...

    @property
    def link(self) -> str: ...

    @property
    def server(self) -> str: ...

    @property
    def rounds(self) -> Sequence[Round]: ...


def row(setting: Setting) -> dict[str, Any]:
    """Medians, and ratios pair by pair within a round; `…_spread` is the smallest and the largest of them."""
    rounds = setting.rounds

    def ratios(of: Callable[[Round, str], float], other: str) -> list[float]:
        return [of(one, "agent") / max(of(one, other), 1e-9) for one in rounds]

    made: dict[str, Any] = {
        "size_mb": setting.size_mb, "link": setting.link, "server": setting.server, "rounds": len(rounds),
    }  # fmt: skip
    for name in ("today", "zstd", "save"):
        made |= _summary(f"vs_{name}", ratios(_wall_s, name))
    for name in ("today", "zstd"):  # less than a bare save takes nobody who saves by etcdctl
        made |= _summary(f"floor_vs_{name}", [_wall_s(one, "save") / _wall_s(one, name) for one in rounds])
    made |= {
        "peak_rss_mb": round(max(one.costs["agent"].own_peak_mb for one in rounds), 1),
        "sum_rss_mb": round(max(one.costs["agent"].sum_mb for one in rounds), 1),
        "peak_by_program_mb": _peaks(rounds),
        **_summary("put_p99_vs_save", ratios(_put_p99_s, "save")),
        **_summary("put_max_vs_save", ratios(_put_max_s, "save")),
        "wall_s": _medians(rounds, lambda cost: cost.wall_s),
        "cpu_s": _medians(rounds, lambda cost: cost.cpu_s),
        "cpu_by_program_s": {name: _by_program(rounds, name) for name in rounds[0].costs},
    }
    return made


def table(document: Mapping[str, Any]) -> str:
    """The rows for a terminal."""
    head = f"{'size':>6} {'link':>10} {'server':>10} {'vs today':>9} {'vs zstd':>8} {'vs save':>8} {'peak MB':>8}"
    lines = [f"{head} {'put p99':>8} {'agent s':>8} {'today s':>8} {'zstd s':>7} {'save s':>7}"]
    for one in document["rows"]:
        walls = one["wall_s"]
        lines.append(
            f"{one['size_mb']:>6} {one['link']:>10} {one['server']:>10} {one['vs_today']:>9.2f} {one['vs_zstd']:>8.2f} "
            f"{one['vs_save']:>8.2f} {one['peak_rss_mb']:>8.1f} {one['put_p99_vs_save']:>8.2f} {walls['agent']:>8.2f} "
            f"{walls['today']:>8.2f} {walls['zstd']:>7.2f} {walls['save']:>7.2f}"
        )
    return "\n".join(lines)


def page(document: Mapping[str, Any]) -> str:
    """docs/results/bench.md: the ratios with their spread, what bounds them, and where the processors' time went."""
    lines = [
        "# Backups beside what people do today",
        "",
        f"`{document['command']}` at commit `{document['commit'][:12]}`, {document['processors']} processors, "
        f"kernel {document['kernel']}, Python {document['python']}. {PAGE_NOTE}",
        "",
        PAGE_HEAD,
        "|" + "---|" * 16,
    ]
    for one in document["rows"]:
        walls = one["wall_s"]
        ratios = [_with_spread(one, name) for name in (
            "vs_today", "floor_vs_today", "vs_zstd", "floor_vs_zstd", "vs_save", "put_p99_vs_save", "put_max_vs_save",
        )]  # fmt: skip
        cells = [one["size_mb"], one["link"], one["server"], one["rounds"], *ratios, one["peak_rss_mb"]]
        cells += [walls[name] for name in ("agent", "today", "zstd", "save")]
        lines.append(f"| {' | '.join(str(cell) for cell in cells)} |")
    lines += ["", "## Where the processors' time went", ""]
    for one in document["rows"]:
        lines += [f"{one['size_mb']} MB, link {one['link']}, {one['server']}, seconds:", ""]
        lines += ["| who | wall | busy of all processors | by program |", "|---|---|---|---|"]
        for name, programs in one["cpu_by_program_s"].items():
            wall_s, used_s = one["wall_s"][name], sum(programs.values())
            by_program = ", ".join(f"{program} {seconds}" for program, seconds in programs.items() if seconds >= 0.05)
            busy = used_s / max(wall_s * document["processors"], 1e-9)
            lines.append(f"| {name} | {wall_s} | {busy:.0%} | {by_program} |")
        lines.append("")
    return "\n".join(lines)


def _with_spread(one: Mapping[str, Any], name: str) -> str:
    least, most = one[f"{name}_spread"]
    return f"{one[name]:.2f} ({least:.2f}-{most:.2f})"


def chart(document: Mapping[str, Any]) -> str:
    """Wall seconds of each contestant as bars, a group for each row on versitygw."""
    rows = [one for one in document["rows"] if one["server"] == "versitygw"]
    longest_s = max(one["wall_s"]["today"] for one in rows)
    parts, top = [], 20
    for one in rows:
        parts.append(f'<text x="8" y="{top}" font-weight="bold">{one["size_mb"]} MB, link {one["link"]}</text>')
        for number, (name, label) in enumerate(BARS):
            y, seconds = top + 8 + 20 * number, one["wall_s"][name]
            width = 420 * seconds / longest_s
            parts.append(f'<rect x="210" y="{y}" width="{width:.1f}" height="15" fill="{COLOURS[name]}"/>')
            parts.append(f'<text x="204" y="{y + 12}" text-anchor="end">{label}</text>')
            parts.append(f'<text x="{216 + width:.1f}" y="{y + 12}">{seconds:.2f} s</text>')
        top += 90
    style = 'font-family="sans-serif" font-size="12"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="700" height="{top}" {style}>'
        f'<rect width="700" height="{top}" fill="white"/>{"".join(parts)}</svg>\n'
    )


def _summary(name: str, ratios: Sequence[float]) -> dict[str, Any]:
    spread = [round(min(ratios), 2), round(max(ratios), 2)]
    return {name: round(statistics.median(ratios), 3), f"{name}_spread": spread}


def _medians(rounds: Sequence[Round], of: Callable[[Cost], float]) -> dict[str, float]:
    return {name: round(statistics.median(of(one.costs[name]) for one in rounds), 2) for name in rounds[0].costs}


def _by_program(rounds: Sequence[Round], name: str) -> dict[str, float]:
    programs = {program for one in rounds for program in one.costs[name].cpu_by_program_s}
    return {
        program: round(statistics.median(one.costs[name].cpu_by_program_s.get(program, 0.0) for one in rounds), 2)
        for program in sorted(programs)
    }


def _peaks(rounds: Sequence[Round]) -> dict[str, float]:
    found: dict[str, float] = {}
    for one in rounds:
        for program, peak_mb in one.costs["agent"].peak_mb.items():
            found[program] = max(found.get(program, 0.0), round(peak_mb, 1))
    return found


def _wall_s(one: Round, name: str) -> float:
    return one.costs[name].wall_s


def _put_p99_s(one: Round, name: str) -> float:
    ordered = sorted(one.puts_s[name])
    return ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]


def _put_max_s(one: Round, name: str) -> float:
    return max(one.puts_s[name])
