"""A report for the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from .checkup import Finding, Report


def text(report: Report) -> str:
    """The machine, a line for each stage, the figures that failed, and the verdict."""
    return "\n".join(_lines(report))


def _lines(report: Report) -> Iterator[str]:
    for name, value in report.machine.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} {each}" for key, each in value.items()) or "none"
        elif isinstance(value, list):
            value = ", ".join(value) or "none"
        yield f"{name:18} {value if value is not None else 'none'}"
    yield ""
    for stage in dict.fromkeys(each.stage for each in report.findings):
        findings = [each for each in report.findings if each.stage == stage]
        if all(each.bound is None for each in findings) and all(each.passed for each in findings):
            yield from (f"{stage:18} {each.what}: {_number(each.figure)}" for each in findings)
            continue
        bad = [each for each in findings if not each.passed]
        checked = [each for each in findings if each.bound is not None or not each.passed]
        mark = f"{len(bad)} of {len(checked)} OFF" if bad else f"ok, {len(checked)} figures"
        yield f"{stage:18} {mark}"
        yield from (f"{'':18}   {_failure(each)}" for each in bad[:5])
    yield ""
    largest = sorted(report.blocks, key=lambda block: block["largest"], reverse=True)[:3]
    for block in largest:
        yield f"largest value      {block['largest']:.3g} in {block['stage']}, {block['block']}"
    off = ", ".join(report.failed)
    verdict = f"something is off in: {off}" if off else "everything agrees"
    yield f"{verdict} ({report.seconds:.0f} s)"


def _failure(finding: Finding) -> str:
    if finding.note and finding.figure is None:
        return f"{finding.what}: {finding.note}"
    note = f" ({finding.note})" if finding.note else ""
    return f"{finding.what}: {_number(finding.figure)}, bound {_number(finding.bound)}{note}"


def _number(figure: float | None) -> str:
    return "none" if figure is None else f"{figure:.3g}"
