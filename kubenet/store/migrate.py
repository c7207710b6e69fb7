"""From one store to an etcd: everything that is there, in the order in which it was last changed.

Revisions go on after the newest of the source, so a client that knows one of those never sees them go back:
it is told that its place is gone, and lists anew.
"""

from kubenet.store.base import Store
from kubenet.store.etcd import EtcdStore


async def migrate(source: Store, target: EtcdStore) -> int:
    """Copy every record; return how many. Raises AlreadyExists if the target has any, StoreFailed."""
    page = await source.range("")
    await target.begin_at(page.revision)
    for record in sorted(page.records, key=lambda record: record.revision):
        await target.create(record.key, record.value)  # one after the other: that is the order
    return len(page.records)
