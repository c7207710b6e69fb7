"""All checks on one snapshot, and how their verdicts are printed. *Pure.*"""

from collections.abc import Callable, Collection, Mapping, Sequence
from xml.sax.saxutils import escape, quoteattr

from kubenet.observe.checks.base import Verdict
from kubenet.observe.checks.cni import check_cni
from kubenet.observe.checks.others import check_dns, check_ipam, check_matrix
from kubenet.observe.checks.overlay import check_overlay
from kubenet.observe.checks.pods import check_pods
from kubenet.observe.checks.services import check_proxy
from kubenet.observe.checks.underlay import check_underlay
from kubenet.observe.findings import CATALOGUE, Finding
from kubenet.observe.render import finding_json
from kubenet.observe.snapshot import Snapshot

CHECKS: Mapping[str, Callable[[Snapshot], Verdict]] = {
    "pods": check_pods,
    "underlay": check_underlay,
    "cni": check_cni,
    "ipam": check_ipam,
    "overlay": check_overlay,
    "proxy": check_proxy,
    "dns": check_dns,
    "matrix": check_matrix,
}
EXIT_FINE, EXIT_FINDING, EXIT_NOTHING = 0, 1, 5
_SHOWN = 10  # findings of one component


def judge(snapshot: Snapshot, parts: Collection[str] = tuple(CHECKS)) -> tuple[Verdict, ...]:
    """Return the verdict of each check that is asked for."""
    return tuple(check(snapshot) for name, check in CHECKS.items() if name in parts)


def exit_code(verdicts: Sequence[Verdict]) -> int:
    """Return 0 if all is well, 1 if there is a finding, 5 if there was nothing to check."""
    if any(not found.warning for verdict in verdicts for found in verdict.findings):
        return EXIT_FINDING
    return EXIT_FINE if any(verdict.count for verdict in verdicts) else EXIT_NOTHING


def verdicts_text(verdicts: Sequence[Verdict], took_s: float) -> str:
    """Return a line a check, and each finding with its evidence and next step."""
    lines = []
    for verdict in verdicts:
        lines.append(f"{_word(verdict):<5} {verdict.component:<8} {verdict.looked_at}")
        for found in verdict.findings[:_SHOWN]:
            lines.append(f"{'':<15}{found.evidence}   {found.code}")
            if found.next_step:
                lines.append(f"{'':<15}next: {found.next_step}")
        if len(verdict.findings) > _SHOWN:
            lines.append(f"{'':<15}and {len(verdict.findings) - _SHOWN} more (-o json shows all)")
    count = sum(len(verdict.findings) for verdict in verdicts)
    checked = sum(verdict.count for verdict in verdicts)
    lines.append(f"{count or 'no'} finding{'' if count == 1 else 's'}, {checked} checks in {took_s:.2f} s")
    if count:
        code = next(found.code for verdict in verdicts for found in verdict.findings)
        lines.append(f"Try:  kubenet explain {code}")
    return "\n".join(lines)


def _word(verdict: Verdict) -> str:
    if not verdict.findings:
        return "ok" if verdict.count else "none"
    return "warn" if all(found.warning for found in verdict.findings) else "FAIL"


def verdicts_json(verdicts: Sequence[Verdict]) -> Mapping[str, object]:
    """Return the fields of the JSON form (``kubenet.dev/v1`` CheckReport)."""
    return {
        "healthy": exit_code(verdicts) == EXIT_FINE,
        "checks": [
            {
                "component": verdict.component,
                "lookedAt": verdict.looked_at,
                "count": verdict.count,
                "findings": [finding_json(found) for found in verdict.findings],
            }
            for verdict in verdicts
        ],
    }


def verdicts_junit(verdicts: Sequence[Verdict], took_s: float) -> str:
    """Return the verdicts as JUnit XML: a case a check."""
    failures = sum(bool(verdict.findings) for verdict in verdicts)
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<testsuite name="kubenet check" tests="{len(verdicts)}" failures="{failures}" time="{took_s:.3f}">',
    ]
    for verdict in verdicts:
        lines.append(f'  <testcase classname="kubenet.check" name={quoteattr(verdict.component)}>')
        lines += [_failure(found) for found in verdict.findings]
        if not verdict.count:
            lines.append("    <skipped/>")
        lines.append("  </testcase>")
    return "\n".join([*lines, "</testsuite>"])


def _failure(found: Finding) -> str:
    title = quoteattr(f"{found.code}: {CATALOGUE[found.code].title}")
    return f"    <failure type={quoteattr(found.code)} message={title}>{escape(found.evidence)}</failure>"
