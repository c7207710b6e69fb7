"""Whether a user may do what a request asks, by the roles and bindings in the cache.

What a user may do in a namespace is worked out once and kept until a role or binding changes.
"""

from collections.abc import Iterable, Iterator

from kubenet.apiserver.attributes import Attributes, refusal
from kubenet.apiserver.cache import Cache
from kubenet.apiserver.entries import Change
from kubenet.apiserver.kinds import BY_PLURAL
from kubenet.apiserver.rbac import Rule, is_subject, not_covered, rules_of
from kubenet.apiserver.registry.access import RBAC
from kubenet.apiserver.selectors import selects
from kubenet.apiserver.status import StatusError, forbidden
from kubenet.apiserver.strategy import Kind
from kubenet.apiserver.tree import table_at, tables_at, text_at
from kubenet.apiserver.users import User
from kubenet.model.objects import Json

CLUSTER_ROLE, ROLE = BY_PLURAL["clusterroles"], BY_PLURAL["roles"]
CLUSTER_BINDING, BINDING = BY_PLURAL["clusterrolebindings"], BY_PLURAL["rolebindings"]
KEPT_MOST = 4096  # answers; when there are more, all are worked out anew


class Authorizer:
    """Asks the roles and bindings of a cache."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._kept: dict[tuple[User, str], tuple[Rule, ...]] = {}
        cache.listen(self._on_change, self._kept.clear)

    def _on_change(self, change: Change) -> None:
        if change.after.kind.resource.group == RBAC:
            self._kept.clear()

    def allows(self, user: User, asked: Attributes) -> bool:
        """Return whether the user may do it."""
        return user.is_master or any(rule.allows(asked) for rule in self.rules(user, asked.namespace))

    def check(self, user: User, asked: Attributes) -> None:
        """Refuse what the user may not do. Raises StatusError (403)."""
        if not self.allows(user, asked):
            raise refusal(user, asked)

    def rules(self, user: User, namespace: str) -> tuple[Rule, ...]:
        """Return all that a user may do in a namespace (empty: in the whole cluster)."""
        key = (user, namespace)
        found = self._kept.get(key)
        if found is None:
            if len(self._kept) >= KEPT_MOST:
                self._kept.clear()
            found = self._kept[key] = tuple(self._rules(user, namespace))
        return found

    def _rules(self, user: User, namespace: str) -> Iterator[Rule]:
        for entry in self._cache.shelf(CLUSTER_BINDING).entries.values():
            yield from self._granted(entry.table(), user)
        if not namespace:
            return
        shelf = self._cache.shelf(BINDING)
        for key in shelf.under(f"{BINDING.prefix}{namespace}/"):
            yield from self._granted(shelf.entries[key].table(), user)

    def _granted(self, binding: Json, user: User) -> Iterable[Rule]:
        if not is_subject(binding, user):
            return ()
        return self._role_rules(table_at(binding, "roleRef"), text_at(binding, "metadata", "namespace"))

    def _role_rules(self, reference: Json, namespace: str) -> Iterable[Rule]:
        """Return the rules of the role that a binding in ``namespace`` refers to."""
        name = text_at(reference, "name")
        if text_at(reference, "kind") == "Role":
            entry = self._cache.get(ROLE, namespace, name)
            return rules_of(entry.table()) if entry else ()
        entry = self._cache.get(CLUSTER_ROLE, "", name)
        if entry is None:
            return ()
        role = entry.table()
        return (*rules_of(role), *self._aggregated(role))

    def _aggregated(self, role: Json) -> Iterator[Rule]:
        """Yield the rules of the roles that an aggregation rule selects."""
        for selector in tables_at(role, "aggregationRule", "clusterRoleSelectors"):
            for entry in self._cache.shelf(CLUSTER_ROLE).entries.values():
                labels = dict(entry.labels)
                if entry.meta.name != text_at(role, "metadata", "name") and selects(selector, labels):
                    yield from rules_of(entry.table())

    def check_grant(self, user: User, kind: Kind, new: Json) -> None:
        """Refuse a role or binding that gives away more than the user has. Raises StatusError (403)."""
        if kind.resource.group != RBAC or user.is_master:
            return
        namespace = text_at(new, "metadata", "namespace")
        if kind in (ROLE, CLUSTER_ROLE):
            asked = Attributes("escalate", RBAC, kind.plural, "", namespace, text_at(new, "metadata", "name"))
            wanted: Iterable[Rule] = rules_of(new)
        else:
            reference = table_at(new, "roleRef")
            plural = "roles" if text_at(reference, "kind") == "Role" else "clusterroles"
            asked = Attributes("bind", RBAC, plural, "", namespace, text_at(reference, "name"))
            wanted = self._role_rules(reference, namespace)
        if self.allows(user, asked):
            return
        missing = not_covered(self.rules(user, namespace), wanted)
        if missing:
            raise _too_much(user, kind, new, missing)


def _too_much(user: User, kind: Kind, new: Json, missing: list[Rule]) -> StatusError:
    rules = "\n".join(str(rule.described()) for rule in missing)
    why = (
        f'user "{user.name}" (groups={[*user.groups]}) is attempting to grant RBAC permissions not currently'
        f" held:\n{rules}"
    )
    return forbidden(kind.resource, text_at(new, "metadata", "name"), why)
