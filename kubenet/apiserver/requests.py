"""What each verb on each path does: the table between HTTP and reads, writes and streams."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from aiohttp import web

from kubenet.apiserver import codec, eviction, objects, query, subresources
from kubenet.apiserver.apply import APPLY, UPDATE, Intent, Manager, applied, check_intent
from kubenet.apiserver.authorizer import Authorizer
from kubenet.apiserver.cache import Cache
from kubenet.apiserver.entries import Entry
from kubenet.apiserver.fieldcheck import FieldCheck
from kubenet.apiserver.kinds import BUDGET
from kubenet.apiserver.patch import json_patch, merge_patch
from kubenet.apiserver.query import WriteOptions
from kubenet.apiserver.reads import list_body, selected_entries
from kubenet.apiserver.registry.access import RBAC
from kubenet.apiserver.reviews import Reviews
from kubenet.apiserver.route import Target
from kubenet.apiserver.status import (
    bad_request,
    success,
    unsupported_media_type,
)
from kubenet.apiserver.strategic import strategic_merge
from kubenet.apiserver.strategy import Kind
from kubenet.apiserver.streams import Streams
from kubenet.apiserver.tokens import Signer
from kubenet.apiserver.tree import list_at, table_at, text_at
from kubenet.apiserver.users import User
from kubenet.apiserver.view import Seen, Table, View
from kubenet.apiserver.writes import Address, Decide, Writer
from kubenet.clock import Clock, rfc3339
from kubenet.model.objects import Json

PATCHES = (codec.JSON_PATCH, codec.MERGE_PATCH, codec.STRATEGIC_PATCH, codec.APPLY_PATCH)


@dataclass(frozen=True, slots=True)
class Sent:
    """A body, and who sent it."""

    user: User
    body: bytes


@dataclass(frozen=True, slots=True)
class Rights:
    """What answers questions about rights, and keeps them from being given away."""

    authorizer: Authorizer
    reviews: Reviews
    signer: Signer | None = None


class Requests:
    """Carries out routed requests."""

    def __init__(self, cache: Cache, writer: Writer, streams: Streams, clock: Clock, rights: Rights) -> None:
        self._rights = rights
        self._cache = cache
        self._writer = writer
        self._streams = streams
        self._clock = clock

    # reading

    async def read(self, request: web.BaseRequest, target: Target, view: View) -> web.StreamResponse:
        """Answer a GET."""
        target, view = _behind(target, view)
        params = request.query
        if not target.name:
            return await self._read_collection(request, target, view)
        if query.flag(params, "watch"):
            raise bad_request("watch a collection with fieldSelector=metadata.name=... instead of one object")
        await self._fresh(query.revision_of(params))
        entry = self._cache.get(target.kind, target.namespace, target.name)
        if entry is None:
            raise _address(target).not_found()
        if target.subresource == "scale":
            return _reply(codec.encoded(subresources.scale_of(entry.table())))
        return _reply(view.one(target.kind.resource, entry.body), view)

    async def _read_collection(
        self, request: web.BaseRequest, target: Target, view: View
    ) -> web.StreamResponse:
        shelf = self._cache.shelf(target.kind)
        if query.flag(request.query, "watch"):
            asked = query.watch_query(target.kind, target.namespace, request.query)
            return await self._streams.serve(request, shelf, asked, view)
        listed = query.list_query(target.kind, target.namespace, request.query)
        await self._fresh(listed.revision)
        return _reply(list_body(shelf, listed, self._cache.revision, view), view)

    async def _fresh(self, revision: int | None) -> None:
        """Wait until the cache is at least as new as the client wants. Raises StatusError (504)."""
        if revision is None:
            await self._cache.refresh()
        else:
            await self._cache.at_least(revision)

    # writing

    async def write(
        self, request: web.BaseRequest, target: Target, view: View, sent: Sent
    ) -> web.StreamResponse:
        """Answer a POST, PUT, PATCH or DELETE."""
        content_type = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        asked, (target, view) = target, _behind(target, view)
        body = sent.body
        if request.method == "DELETE":
            return await self._delete(request.query, target, view, _delete_body(body, content_type))
        fields = FieldCheck(
            asked.kind, asked.body_kind, query.field_validation(request.method, request.query)
        )
        options = _options(request, target)
        if content_type == codec.APPLY_PATCH and request.method == "PATCH":
            response = await self._apply(request, target, view, (sent, fields))
        elif request.method == "PATCH":
            decide = _patching(asked, body, content_type, fields)
            decide = self._granting(target, sent.user, decide)
            response = await self._change(options, target, view, decide)
        else:
            value = codec.decode_object(body, content_type)
            fields.check_body(value, body, content_type)
            value = asked.kind.lens.kept(value) if asked.kind.lens else value
            if request.method == "PUT":
                decide = self._granting(target, sent.user, _replacement(target, value))
                response = await self._change(options, target, view, decide)
            else:
                response = await self._post((request.query, options), target, view, (sent.user, value))
        for warning in fields.warnings:
            response.headers.add("Warning", warning)
        return response

    def _granting(self, target: Target, user: User, decide: Decide) -> Decide:
        """Return a change that gives nobody more rights than the sender has."""
        if target.kind.resource.group != RBAC:
            return decide

        def guarded(old: Json) -> Json:
            new = decide(old)
            self._rights.authorizer.check_grant(user, target.kind, new)
            return new

        return guarded

    async def _post(
        self,
        how: tuple[Mapping[str, str], WriteOptions],
        target: Target,
        view: View,
        asked: tuple[User, Json],
    ) -> web.Response:
        (params, options), (user, sent) = how, asked
        if not target.kind.kept:
            return _reply(
                codec.encoded(self._rights.reviews.answer(target.kind, user, target.namespace, sent)),
                code=201,
            )
        if target.subresource == "token":
            return self._token(target, sent)
        if target.subresource == "binding" and not target.name:
            target = replace(target, name=text_at(sent, "metadata", "name"))
        if not target.name:
            fitted = {**sent, "metadata": {**table_at(sent, "metadata"), "namespace": target.namespace}}
            self._rights.authorizer.check_grant(user, target.kind, fitted)
            created = await self._writer.create(target.kind, target.namespace, sent, options)
            return _reply(view.one(target.kind.resource, created), view, 201)
        if target.subresource == "binding":
            now = rfc3339(self._clock.now())

            def bind(old: Json) -> Json:
                return subresources.bound(target.kind, old, sent, now)

            await self._writer.change(_address(target), bind, replace(options, subresource=True))
            return _reply(codec.encoded(success({}, 201)), code=201)
        delete = query.delete_options(params, table_at(sent, "deleteOptions"))  # an eviction
        self._check_budgets(target)
        await self._writer.delete(_address(target), delete)
        return _reply(codec.encoded(success({}, 201)), code=201)

    def _check_budgets(self, target: Target) -> None:
        """Refuse an eviction that breaks a disruption budget. Raises StatusError (429, 500)."""
        pod = self._cache.get(target.kind, target.namespace, target.name)
        budgets = self._in_namespace(BUDGET, target.namespace)
        if pod is None or not budgets:
            return
        if refused := eviction.refusal(
            pod.table(), budgets, self._in_namespace(target.kind, target.namespace)
        ):
            raise refused

    def _in_namespace(self, kind: Kind, namespace: str) -> list[Json]:
        shelf = self._cache.shelf(kind)
        return [shelf.entries[key].table() for key in shelf.under(f"{kind.prefix}{namespace}/")]

    def _token(self, target: Target, sent: Json) -> web.Response:
        account = self._cache.get(target.kind, target.namespace, target.name)
        if account is None:
            raise _address(target).not_found()
        return _reply(codec.encoded(self._rights.reviews.token(self._rights.signer, account, sent)), code=201)

    async def _apply(
        self, request: web.BaseRequest, target: Target, view: View, sent: tuple[Sent, FieldCheck]
    ) -> web.Response:
        """Answer a server-side apply. Raises StatusError (400, 409, 422)."""
        (caller, fields), params = sent, request.query
        config = codec.decode_object(caller.body, codec.YAML_TYPE)
        fields.check_body(config, caller.body, codec.YAML_TYPE)
        check_intent(params.get("fieldManager", ""), config)
        if target.subresource not in ("", "status"):
            raise unsupported_media_type(PATCHES[:-1])
        objects.fit_address(target.kind, config, target.namespace, target.name)
        manager = Manager(params["fieldManager"], APPLY, target.subresource)
        config = {key: codec.without_nulls(value) for key, value in config.items() if value is not None}
        intent = Intent(manager, config, query.flag(params, "force"))
        now = rfc3339(self._clock.now())

        def decide(old: Json) -> Json:
            wanted = applied(target.kind, old, intent, now)
            if not old:
                return wanted
            new = _updated(target, wanted, old)
            new["metadata"] = {
                **table_at(new, "metadata"),
                "managedFields": list_at(wanted, "metadata", "managedFields"),
            }
            return new

        options = replace(_options(request, target), tracked=True, subresource=bool(target.subresource))
        granted = self._granting(target, caller.user, decide)
        body, created = await self._writer.apply(_address(target), granted, options)
        return _reply(view.one(target.kind.resource, body), view, 201 if created else 200)

    async def _change(
        self, options: WriteOptions, target: Target, view: View, decide: Decide
    ) -> web.Response:
        changed = await self._writer.change(_address(target), decide, options)
        if target.subresource == "scale":
            return _reply(codec.encoded(subresources.scale_of(codec.decoded_table(changed))))
        return _reply(view.one(target.kind.resource, changed), view)

    async def _delete(
        self, params: Mapping[str, str], target: Target, view: View, body: Json
    ) -> web.Response:
        options = query.delete_options(params, body)
        if target.name:
            answer = await self._writer.delete(_address(target), options)
            return _reply(answer)
        selected = query.list_query(target.kind, target.namespace, params)
        await self._cache.refresh()
        entries = selected_entries(self._cache.shelf(target.kind), selected)
        for entry in entries:
            await self._writer.delete_if_there(_entry_address(entry), options)
        metadata: Json = {"resourceVersion": str(self._cache.revision)}
        bodies = (entry.body for entry in entries)
        return _reply(view.many(target.kind.resource, metadata, bodies), view)


def _kept(target: Target) -> Target:
    """Return what is behind the lens of a kind, if it has one."""
    return replace(target, kind=target.kind.lens.kept_as) if target.kind.lens else target


def _behind(target: Target, view: View) -> tuple[Target, View]:
    """Return what is kept, and how it is shown; the rows of a table are those of what is kept."""
    lens = target.kind.lens
    if lens is not None and not isinstance(view, Table):
        view = Seen(view, target.kind.resource, lens.shown)
    return _kept(target), view


def _options(request: web.BaseRequest, target: Target) -> WriteOptions:
    """Return how a write is done, and by whom. Raises StatusError (400, 422)."""
    options = query.write_options(request.query)
    name = query.manager_of(request.query, request.headers.get("User-Agent", ""))
    return replace(options, manager=Manager(name, UPDATE, target.subresource))


def _address(target: Target) -> Address:
    return Address(target.kind, target.namespace, target.name)


def _entry_address(entry: Entry) -> Address:
    return Address(entry.kind, entry.meta.namespace, entry.meta.name)


def _reply(body: bytes, view: View | None = None, code: int = 200) -> web.Response:
    content_type = view.content_type if view else codec.JSON_TYPE
    return web.Response(body=body, status=code, content_type=content_type)


def _replacement(target: Target, sent: Json) -> Decide:
    """Return the change that a PUT asks for. Raises StatusError (400)."""
    if target.subresource == "scale":
        return lambda old: subresources.scaled(target.kind, old, sent)
    objects.fit_address(target.kind, sent, target.namespace, target.name)
    return lambda old: _updated(target, sent, old)  # which works on a copy


def _patching(target: Target, body: bytes, content_type: str, fields: FieldCheck) -> Decide:
    """Return the change that a PATCH asks for. Raises StatusError (400, 415)."""
    if content_type not in PATCHES[:-1]:
        raise unsupported_media_type(PATCHES)
    patch = codec.decode_json(body)
    if content_type != codec.JSON_PATCH and not isinstance(patch, dict):
        raise bad_request("the patch is not an object")

    lens = target.kind.lens
    target = _kept(target)

    def decide(old: Json) -> Json:
        base = subresources.scale_of(old) if target.subresource == "scale" else old
        base = lens.shown(base) if lens else base
        if content_type == codec.JSON_PATCH:
            patched = json_patch(base, patch)
        elif content_type == codec.STRATEGIC_PATCH and isinstance(patch, dict):
            patched = strategic_merge(base, patch)
        else:
            patched = merge_patch(base, patch)
        if not isinstance(patched, dict):
            raise bad_request("the patch does not leave an object")
        fields.check_patched(patched, base, body)
        patched = lens.kept(patched) if lens else patched
        if target.subresource == "scale":
            return subresources.scaled(target.kind, old, patched)
        objects.fit_address(target.kind, patched, target.namespace, target.name)
        return _updated(target, patched, old)

    return decide


def _updated(target: Target, sent: Json, old: Json) -> Json:
    if target.subresource == "status":
        return objects.updated_status(target.kind, sent, old)
    if target.subresource == "finalize":
        return objects.updated_finalizers(sent, old)
    return objects.updated(target.kind, sent, old)


def _delete_body(body: bytes, content_type: str) -> Json:
    if not body:
        return {}
    options = codec.decode_object(body, content_type)
    if text_at(options, "kind") not in ("", "DeleteOptions"):
        raise bad_request("the body of a delete is DeleteOptions")
    return options
