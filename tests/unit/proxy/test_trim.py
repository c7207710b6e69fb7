"""What is kept of an object leads to the same service ports as the object."""

from hypothesis import given, settings
from hypothesis import strategies as st

from kubenet.client.cache import Cache
from kubenet.client.packing import Packing
from kubenet.model.objects import EndpointSlice, Service
from proxy.track import TrackRules, track
from proxy.trim import Trimmer
from tests.unit.proxy.objects import backend, endpoint_slice, service
from tests.unit.proxy.test_view import services as any_service
from tests.unit.proxy.test_view import slices as any_slice


@settings(max_examples=60, deadline=None)
@given(st.lists(any_service(), max_size=3), st.lists(any_slice(), max_size=4))
def test_trimming_never_shows(services: list[Service], slices: list[EndpointSlice]) -> None:
    trim, rules = Trimmer(), TrackRules()
    kept = track(map(trim.service, services), map(trim.slice, slices), rules)
    assert kept == track(services, slices, rules)


def test_what_many_have_in_common_is_held_once() -> None:
    trim = Trimmer()
    many = [backend(f"10.244.1.{number}", node="n1") for number in range(1, 21)]
    one, other = (trim.slice(endpoint_slice(*many, name=name)) for name in "ab")
    assert (one.endpoints or ())[0].node_name is (other.endpoints or ())[0].node_name


def test_a_change_brings_the_object_as_it_came_and_the_cache_keeps_what_is_read() -> None:
    cache: Cache[Service] = Cache(Packing(Service, Trimmer().service))
    came = service(annotations={"kubenet.dev/balance": "random", "other": "long text"})
    change = cache.put(came)
    assert change is not None
    assert change.new is came
    kept = cache.get("demo/web")
    assert kept is not None
    assert kept.metadata.annotations == {"kubenet.dev/balance": "random"}
