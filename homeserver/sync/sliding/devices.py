"""Extensions for end-to-end encryption: messages to the device, and devices' keys.

Spec: MSC3885 (to_device), MSC3884 (e2ee)
"""

from dataclasses import replace
from typing import Final

from federation.errors import Malformed
from federation.ids import DeviceId
from homeserver.devices import inbox
from homeserver.devices.inbox import Inbox
from homeserver.devices.key_counts import key_counts
from homeserver.devices.sharing import Shares, changed_lists
from homeserver.live.room import User
from homeserver.sync.device_lists import counts_sections
from homeserver.sync.sliding.connection import LIVE, NEVER
from homeserver.sync.sliding.lists import Standing
from homeserver.sync.sliding.request import Extension
from homeserver.sync.sliding.scene import Scene, Told
from homeserver.sync.to_device import section

TO_DEVICE: Final = "to_device"
E2EE: Final = "e2ee"


def parse_since(token: str | None) -> int:
    """Up to where the device has got messages; 0 at first. Raises: Malformed."""
    if not token:
        return 0
    if not (token.isascii() and token.isdecimal() and len(token) <= 18):
        raise Malformed("this is not a token of this server")
    return int(token)


async def read_to_device(scene: Scene, extension: Extension, user: User) -> Told:
    """The messages that wait; those that the token acknowledges are deleted."""
    sources, upto = scene.sources, scene.upto
    since = min(parse_since(extension.since), upto)
    device_id = DeviceId(scene.viewer.device_id or "")
    found = await inbox.read(sources.db, sources.live, user, device_id, since, upto)
    found = _cut(found, extension.limit)
    following = upto if found.upto is None else found.upto
    return Told(
        {"next_batch": str(following), **section(found)},
        is_news=bool(found.messages),
        # They come again until the client says that it has them.
        is_all=not found.messages,
    )


def _cut(found: Inbox, limit: int | None) -> Inbox:
    """No more messages than the client wants, but one."""
    most = max(limit or 0, 1)
    if limit is None or len(found.messages) <= most:
        return found
    kept = found.messages[:most]
    return replace(found, messages=kept, upto=kept[-1].position)


async def read_e2ee(scene: Scene, user: User, standing: Standing) -> Told:
    """Whose devices changed, and how many keys the device has left."""
    draft, sources = scene.draft, scene.sources
    place = draft.own.get(E2EE, NEVER)
    since = scene.upto if place == NEVER else draft.since(place)
    shares = Shares((), ())
    if standing.moved > since:
        shares = await changed_lists(sources.db, sources.live, user, since, scene.upto)
    counts_of = key_counts(sources.db, sources.live)
    device_id = DeviceId(scene.viewer.device_id or "")
    counts = await counts_of.of(scene.viewer.user_id, device_id)
    draft.put_own(E2EE, LIVE)
    told = counts_sections(counts)
    one_time = {"signed_curve25519": 0, **counts.one_time_keys}
    told["device_one_time_keys_count"] = dict(one_time)
    has_lists = bool(shares.changed or shares.left)
    if has_lists:
        told["device_lists"] = {
            "changed": list(shares.changed),
            "left": list(shares.left),
        }
    is_news = place == NEVER or has_lists or counts.position > since
    return Told(dict(told), is_news=is_news)
