"""Which plugins can have a say in the cluster's own names: where none can, kept replies are given at once.

*Pure.* It errs on the safe side: a plugin that is not understood here has a say in everything.
"""

from collections.abc import Iterable, Sequence

from dns import names
from dns.names import WireName, is_in
from dns.plugins.values import Match, NamePattern, NameRewrite, RewriteRule
from dns.settings import Block


def touches(block: Block, zones: Sequence[WireName]) -> bool:
    """Return whether a plugin of ``block`` before kubernetes can have a say in names of ``zones``.

    ``chaos`` is for another class and ``transfer`` for types that are never kept. ``hosts`` is asked itself:
    its names change.
    """
    of_all = (block.local, block.dns64, block.autopath, block.acls, block.any, block.header, block.minimal)
    if any(of_all) or any(not _is_elsewhere(rule, zones) for rule in block.rewrites):
        return True
    return any(overlap(template.zones, zones) for template in block.templates)


def overlap(some: Iterable[WireName], others: Sequence[WireName]) -> bool:
    """Return whether a name can be in a zone of both."""
    return any(is_in(one, other) or is_in(other, one) for one in some for other in others)


def _is_elsewhere(rule: RewriteRule, zones: Sequence[WireName]) -> bool:
    """Return whether a rule is for names outside of all ``zones``."""
    if not isinstance(rule.change, NameRewrite):
        return False
    pattern: NamePattern = rule.change.pattern
    texts = [names.to_text(zone) for zone in zones]
    match pattern.match:
        case Match.EXACT:
            return not any(is_in(names.from_text(pattern.text), zone) for zone in zones)
        case Match.SUFFIX:
            return not any(text.endswith(pattern.text) or pattern.text.endswith(text) for text in texts)
        case _:
            return False
