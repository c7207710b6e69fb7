"""Manifest files: what is read, and where a mistake is pointed at."""

import pytest

from kubenet.client.manifest import Manifest, parse
from kubenet.errors import InvalidManifest, KubenetError, UnknownKind
from kubenet.model.resources import CONFIGMAPS, NAMESPACES, PODS

POD = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n"


def test_objects_come_in_the_order_of_the_file_with_their_namespaces() -> None:
    text = f"---\n{POD}---\n# nothing here\n---\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: n\n"
    first, second = parse(text, "f.yaml", namespace="here")
    assert (first.resource, first.namespace, first.name) == (PODS, "here", "a")
    assert second == Manifest(
        NAMESPACES, "", "n", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}}
    )


def test_a_stated_namespace_wins() -> None:
    (pod,) = parse(POD.replace("{name: a}", "{name: a, namespace: other}"), "f.yaml")
    assert pod.namespace == "other"


def test_a_date_is_text_as_in_kubernetes() -> None:
    (config,) = parse("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {day: 2026-01-02}\n", "f")
    assert config.resource == CONFIGMAPS
    assert config.body["data"] == {"day": "2026-01-02"}


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        pytest.param("a: [", InvalidManifest, "f.yaml:2: not YAML", id="unclosed list"),
        pytest.param("- 1", InvalidManifest, "f.yaml:1: not an object but list", id="a list"),
        pytest.param("", InvalidManifest, "f.yaml: holds no object", id="empty file"),
        pytest.param("kind: Pod", InvalidManifest, "f.yaml:1: apiVersion is missing", id="no apiVersion"),
        pytest.param(
            "apiVersion: v1\nkind: 3", InvalidManifest, "kind is not text but 3", id="kind is a number"
        ),
        pytest.param(
            f"{POD}---\napiVersion: v1\nkind: Pot", UnknownKind, "f.yaml:5: unknown kind 'Pot'", id="typo"
        ),
        pytest.param("apiVersion: v2\nkind: Pod", UnknownKind, "of apiVersion 'v2'", id="unknown version"),
        pytest.param("apiVersion: v1\nkind: Pod", InvalidManifest, "Pod has no metadata", id="no metadata"),
        pytest.param(
            "apiVersion: v1\nkind: Pod\nmetadata: {}", InvalidManifest, "metadata.name is", id="no name"
        ),
        pytest.param("a: 1\nb: 2\na: 3", InvalidManifest, "f.yaml:3: key 'a' stands twice", id="key twice"),
        pytest.param("x: !!python/object:os.system 3", InvalidManifest, "f.yaml:1: not a plain", id="a tag"),
        pytest.param("? [1]\n: 2", InvalidManifest, "a key must be text", id="key is a list"),
        pytest.param("a: &a\n  b: *a\n", InvalidManifest, "an alias of itself", id="alias of itself"),
        pytest.param(
            "[" * 100_000, InvalidManifest, "f.yaml:1: nested more than 100 deep", id="nested without end"
        ),
    ],
)
def test_a_mistake_is_named_with_its_line(text: str, error: type[KubenetError], says: str) -> None:
    with pytest.raises(error) as raised:
        parse(text, "f.yaml")
    assert says in raised.value.message


def test_aliases_cannot_blow_up() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    with pytest.raises(InvalidManifest, match="more than 200000 values"):
        parse("\n".join(lines), "bomb.yaml")
