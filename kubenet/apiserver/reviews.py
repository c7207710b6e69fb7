"""Questions that are answered and forgotten: may I, who am I, whose token is this, give me a token.

Source: Kubernetes API reference, authorization.k8s.io/v1 and authentication.k8s.io/v1.
"""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from kubenet.apiserver.attributes import Attributes
from kubenet.apiserver.authenticator import Authenticator
from kubenet.apiserver.authorizer import Authorizer
from kubenet.apiserver.cache import Cache
from kubenet.apiserver.entries import Entry
from kubenet.apiserver.kinds import NODE, POD
from kubenet.apiserver.status import StatusError, bad_request, conflict, invalid, not_found, unprocessable
from kubenet.apiserver.strategy import Kind
from kubenet.apiserver.subresources import TOKEN
from kubenet.apiserver.tokens import (
    DEFAULT_S,
    ISSUER,
    LEAST_S,
    MOST_S,
    Binding,
    Claims,
    Named,
    Signer,
    written,
)
from kubenet.apiserver.tree import int_at, table_at, text_at, texts_at
from kubenet.apiserver.users import User, known
from kubenet.clock import Clock, rfc3339
from kubenet.model.objects import Json, JsonValue

_HOLDERS = {"Pod": ("pod", POD), "Node": ("node", NODE)}


@dataclass(frozen=True, slots=True)
class Question:
    """A review as it was sent: by whom, about which namespace, with which specification."""

    user: User
    namespace: str
    spec: Json


class Reviews:
    """Answers reviews."""

    def __init__(
        self, cache: Cache, authorizer: Authorizer, authenticator: Authenticator, clock: Clock
    ) -> None:
        self._cache = cache
        self._authorizer = authorizer
        self._authenticator = authenticator
        self._clock = clock
        self._answers: dict[str, Callable[[Question], Json]] = {
            "SelfSubjectAccessReview": self._may_i,
            "SelfSubjectRulesReview": self._what_may_i,
            "SubjectAccessReview": self._may_they,
            "LocalSubjectAccessReview": self._may_they_here,
            "SelfSubjectReview": lambda asked: {"userInfo": asked.user.described()},
            "TokenReview": self._whose_token,
        }

    def answer(self, kind: Kind, user: User, namespace: str, sent: Json) -> Json:
        """Return a review with its status. Raises StatusError (400, 422)."""
        question = Question(user, namespace, table_at(sent, "spec"))
        resource = kind.resource
        head: Json = {"kind": resource.kind, "apiVersion": resource.api_version}
        metadata: Json = {"creationTimestamp": None, **table_at(sent, "metadata")}
        answered = {**head, "metadata": metadata, "status": self._answers[resource.kind](question)}
        return answered if resource.kind == "SelfSubjectReview" else {**answered, "spec": question.spec}

    def _may_i(self, question: Question) -> Json:
        return self._judged(question.user, question.spec)

    def _may_they(self, question: Question) -> Json:
        name, groups = text_at(question.spec, "user"), tuple(texts_at(question.spec, "groups"))
        if not name and not groups:
            raise bad_request("at least one of user or group must be specified")
        return self._judged(User(name, groups), question.spec)

    def _may_they_here(self, question: Question) -> Json:
        asked = text_at(question.spec, "resourceAttributes", "namespace")
        if asked != question.namespace:
            raise bad_request(f"must match metadata.namespace: {asked} is not {question.namespace}")
        return self._may_they(question)

    def _judged(self, user: User, spec: Json) -> Json:
        asked = _asked(spec)
        allowed = self._authorizer.allows(user, asked)
        return {"allowed": True} if allowed else {"allowed": False}

    def _what_may_i(self, question: Question) -> Json:
        namespace = text_at(question.spec, "namespace")
        if not namespace:
            raise bad_request("no namespace on request")
        found = [rule.described() for rule in self._authorizer.rules(question.user, namespace)]
        if question.user.is_master:
            found.append({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]})
            found.append({"verbs": ["*"], "nonResourceURLs": ["*"]})
        resources: list[JsonValue] = [rule for rule in found if "nonResourceURLs" not in rule]
        paths: list[JsonValue] = [rule for rule in found if "nonResourceURLs" in rule]
        return {"resourceRules": resources, "nonResourceRules": paths, "incomplete": False}

    def _whose_token(self, question: Question) -> Json:
        audiences = texts_at(question.spec, "audiences") or [ISSUER]
        found = self._authenticator.of_token(text_at(question.spec, "token"), audiences)
        if isinstance(found, str):
            return {"authenticated": False, "error": f"the token is refused: {found}", "user": {}}
        return {"authenticated": True, "user": known(found).described(), "audiences": [*audiences]}

    def token(self, signer: Signer | None, account: Entry, sent: Json) -> Json:
        """Return a token for a service account. Raises StatusError (404, 409, 422, 503)."""
        if signer is None:
            raise StatusError(503, "ServiceUnavailable", "this server has no key to sign tokens with")
        spec, meta, now = table_at(sent, "spec"), account.meta, self._clock.now()
        lifetime_s = int_at(spec, "expirationSeconds", default=DEFAULT_S)
        if not LEAST_S <= lifetime_s <= MOST_S:
            detail = (
                f"may not specify a duration less than {LEAST_S // 60} minutes or larger than 2^32 seconds"
            )
            raise unprocessable(TOKEN, "", [invalid("spec.expirationSeconds", lifetime_s, detail)])
        audiences = texts_at(spec, "audiences") or [ISSUER]
        started_s = int(now.timestamp())
        claims = Claims(
            iss=ISSUER,
            sub=f"system:serviceaccount:{meta.namespace}:{meta.name}",
            aud=audiences,
            exp=started_s + lifetime_s,
            iat=started_s,
            nbf=started_s,
            jti=str(uuid.uuid4()),
            kubernetes=self._binding(account, table_at(spec, "boundObjectRef")),
        )
        end = rfc3339(now + timedelta(seconds=lifetime_s))
        return {
            "kind": TOKEN.kind,
            "apiVersion": TOKEN.api_version,
            "metadata": {"name": meta.name, "namespace": meta.namespace, "creationTimestamp": rfc3339(now)},
            "spec": {**spec, "audiences": [*audiences], "expirationSeconds": lifetime_s},
            "status": {"token": written(claims, signer), "expirationTimestamp": end},
        }

    def _binding(self, account: Entry, reference: Json) -> Binding:
        named = Named(account.meta.name, account.meta.uid)
        if not reference:
            return Binding(account.meta.namespace, named)
        field, kind = _HOLDERS.get(text_at(reference, "kind"), ("", None))
        if kind is None:
            raise bad_request(f"cannot bind token for serviceaccount to a {text_at(reference, 'kind')}")
        name, uid = text_at(reference, "name"), text_at(reference, "uid")
        holder = self._cache.get(kind, account.meta.namespace, name)
        if holder is None:
            raise not_found(kind.resource, name)
        if uid and uid != holder.meta.uid:
            raise conflict(
                kind.resource, name, f"the UID in the bound object reference ({uid}) does not match"
            )
        bound = Named(name, holder.meta.uid)
        node = text_at(holder.table(), "spec", "nodeName") if field == "pod" else ""
        on_node = self._cache.get(NODE, "", node) if node else None
        return Binding(
            account.meta.namespace,
            named,
            pod=bound if field == "pod" else None,
            node=bound if field == "node" else Named(node, on_node.meta.uid) if on_node else None,
        )


def _asked(spec: Json) -> Attributes:
    resource, other = table_at(spec, "resourceAttributes"), table_at(spec, "nonResourceAttributes")
    if bool(resource) == bool(other):
        raise bad_request("exactly one of resourceAttributes and nonResourceAttributes must be given")
    if other:
        return Attributes(text_at(other, "verb"), path=text_at(other, "path"))
    parts = ("verb", "group", "resource", "subresource", "namespace", "name")
    return Attributes(*(text_at(resource, part) for part in parts))
