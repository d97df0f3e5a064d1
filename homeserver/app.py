"""The one wiring file: what a running server is made of, and in which order.

Every endpoint module, everything that follows from a stored event, and every task of a
process is named here.
"""

import contextlib
from collections.abc import Iterator, Sequence
from types import ModuleType, TracebackType
from typing import Final, Self

from federation.wire.client import WireClient
from federation.wire.options import WireOptions
from homeserver import memory, signing_key
from homeserver.accounts import tasks as accounts_tasks
from homeserver.accounts.authentication import Authentication
from homeserver.accounts.client_api import (
    account_data,
    deactivation,
    devices,
    filters,
    moderation,
    openid,
    session,
)
from homeserver.accounts.identity_servers import IdentityServers
from homeserver.appservices.services import Services
from homeserver.bounded import MIB, LruCache
from homeserver.bridging import client_api as bridging_client_api
from homeserver.bridging import registrations_api, thirdparty_api
from homeserver.bridging.sender import BridgeSender
from homeserver.calls import client_api as calls_client_api
from homeserver.clock import Clock
from homeserver.config import Config
from homeserver.context import Context
from homeserver.db.replicas import opened
from homeserver.delayed import client_api as delayed_client_api
from homeserver.delayed import tasks as delayed_tasks
from homeserver.delayed.schedule import put_off
from homeserver.delayed.sender import DelayedSender
from homeserver.destinations import queue as destinations_queue
from homeserver.destinations.sender import Sender
from homeserver.destinations.watch import EphemeralWatch
from homeserver.devices import following
from homeserver.devices import server_api as devices_server_api
from homeserver.devices import tasks as devices_tasks
from homeserver.devices.client_api import (
    backup,
    cross_signing,
    dehydrated,
    to_device,
)
from homeserver.devices.client_api import keys as device_keys
from homeserver.directory import client_api as directory_client_api
from homeserver.directory import server_api as directory_server_api
from homeserver.http import client_api as http_client_api
from homeserver.http import metrics_api
from homeserver.http import server_api as http_server_api
from homeserver.http.addresses import Proxies
from homeserver.http.auth import Authenticators
from homeserver.http.crowd import raise_descriptor_limit
from homeserver.http.dispatch import Hall
from homeserver.http.gate import Gate
from homeserver.http.limits import Limits
from homeserver.http.routes import collect
from homeserver.http.server import Listeners
from homeserver.http.siblings import Siblings
from homeserver.http.sockets import Address
from homeserver.live.live import Live
from homeserver.live.retention import Lifetimes, Retention
from homeserver.live.steps import Consequence
from homeserver.login import admin_api as login_admin_api
from homeserver.login import client_api as login_client_api
from homeserver.login import fallback_pages as login_fallback_pages
from homeserver.login import invite_page as login_invite_page
from homeserver.login import password_api as login_password_api
from homeserver.login import tokens_api as login_tokens_api
from homeserver.login.guests import GuestWatch
from homeserver.mail.postman import Postman
from homeserver.media import references as media_references
from homeserver.media import server_api as media_server_api
from homeserver.media import tasks as media_tasks
from homeserver.media.client_api import downloads as media_downloads
from homeserver.media.client_api import previews as media_previews
from homeserver.media.client_api import thumbnails as media_thumbnails
from homeserver.media.client_api import uploads as media_uploads
from homeserver.media.media import Media
from homeserver.oauth import account_pages as oauth_account_pages
from homeserver.oauth import authorize_pages as oauth_authorize_pages
from homeserver.oauth import link_pages as oauth_link_pages
from homeserver.oauth import login_pages as oauth_login_pages
from homeserver.oauth import metadata_api as oauth_metadata_api
from homeserver.oauth import register_pages as oauth_register_pages
from homeserver.oauth import rendezvous_api as oauth_rendezvous_api
from homeserver.oauth import sso_pages as oauth_sso_pages
from homeserver.oauth import tasks as oauth_tasks
from homeserver.oauth import token_api as oauth_token_api
from homeserver.people import client_api as people_client_api
from homeserver.people.farewells import Farewells
from homeserver.people.keeper import DirectoryKeeper
from homeserver.periodic import Periodic
from homeserver.presence import client_api as presence_client_api
from homeserver.presence import upkeep as presence_upkeep
from homeserver.presence.attendance import Attendance
from homeserver.presence.tell import PresenceTeller
from homeserver.profile import client_api as profile_client_api
from homeserver.profile import server_api as profile_server_api
from homeserver.profile.telling import ProfileTeller
from homeserver.push import client_api as push_client_api
from homeserver.push import keeping as push_keeping
from homeserver.push import notifications_api as push_notifications_api
from homeserver.push import pushers_api as push_pushers_api
from homeserver.push import store as push_store
from homeserver.push import unsubscribe_pages as push_unsubscribe_pages
from homeserver.push.tasks import pushing
from homeserver.receipts import client_api as receipts_client_api
from homeserver.relations import client_api as relations_client_api
from homeserver.relations import subscriptions_api
from homeserver.reports import client_api as reports_client_api
from homeserver.retention import client_api as retention_client_api
from homeserver.retention import tasks as retention_tasks
from homeserver.rooms import client_api as rooms_client_api
from homeserver.rooms import (
    create_api,
    history_api,
    membership_api,
    merging,
    mutual_api,
    redactions,
    sticky,
    stripped,
)
from homeserver.rooms.completing import Completer
from homeserver.rooms.forgetting import Forgetter
from homeserver.rooms.identity import KeyChecks
from homeserver.rooms.merging import Merger
from homeserver.rooms.policy import PolicyServers
from homeserver.rooms.server_api import history as rooms_history_server_api
from homeserver.rooms.server_api import invites as rooms_invites_server_api
from homeserver.rooms.server_api import membership as rooms_membership_server_api
from homeserver.rooms.server_api import third_party as rooms_third_party_server_api
from homeserver.rooms.unverified import Retrier
from homeserver.search import client_api as search_client_api
from homeserver.search.indexer import SearchIndexer
from homeserver.server_keys import server_api as server_keys_server_api
from homeserver.server_keys.authenticate import authenticate_server
from homeserver.sign_on import wiring as sign_on
from homeserver.spaces import client_api as spaces_client_api
from homeserver.spaces import server_api as spaces_server_api
from homeserver.spaces.remote import RemoteRooms
from homeserver.sync import client_api as sync_client_api
from homeserver.sync import old_api
from homeserver.sync.peeking import Onlookers
from homeserver.sync.sliding import client_api as sliding_client_api
from homeserver.sync.sliding import tasks as sliding_tasks
from homeserver.threepids import client_api as threepids_client_api
from homeserver.threepids import pages as threepids_pages
from homeserver.threepids import tasks as threepids_tasks
from homeserver.threepids import tokens_api as threepids_tokens_api
from homeserver.transactions import server_api as transactions_server_api
from homeserver.transactions import tasks as transactions_tasks
from homeserver.typing import client_api as typing_client_api
from homeserver.typing.tasks import TypingEnder
from homeserver.upgrades import client_api as upgrades_client_api
from homeserver.upgrades import settings as upgrades_settings
from homeserver.wake_ups.choice import wake_ups_of

# Modules whose functions answer requests.
ENDPOINTS: Final[Sequence[ModuleType]] = (
    http_client_api,
    http_server_api,
    metrics_api,
    server_keys_server_api,
    session,
    devices,
    account_data,
    filters,
    openid,
    moderation,
    deactivation,
    login_password_api,
    login_fallback_pages,
    login_invite_page,
    login_tokens_api,
    threepids_client_api,
    threepids_tokens_api,
    threepids_pages,
    login_client_api,
    login_admin_api,
    profile_client_api,
    profile_server_api,
    create_api,
    membership_api,
    rooms_client_api,
    history_api,
    relations_client_api,
    subscriptions_api,
    reports_client_api,
    receipts_client_api,
    typing_client_api,
    presence_client_api,
    people_client_api,
    push_client_api,
    push_notifications_api,
    push_pushers_api,
    push_unsubscribe_pages,
    directory_client_api,
    directory_server_api,
    media_uploads,
    media_downloads,
    media_thumbnails,
    media_previews,
    media_server_api,
    rooms_membership_server_api,
    rooms_invites_server_api,
    rooms_history_server_api,
    transactions_server_api,
    sync_client_api,
    device_keys,
    cross_signing,
    to_device,
    backup,
    dehydrated,
    devices_server_api,
    sliding_client_api,
    calls_client_api,
    delayed_client_api,
    bridging_client_api,
    registrations_api,
    thirdparty_api,
    upgrades_client_api,
    spaces_client_api,
    spaces_server_api,
    mutual_api,
    old_api,
    rooms_third_party_server_api,
    retention_client_api,
    search_client_api,
    oauth_metadata_api,
    oauth_token_api,
    oauth_rendezvous_api,
    oauth_authorize_pages,
    oauth_login_pages,
    oauth_register_pages,
    oauth_link_pages,
    oauth_account_pages,
    oauth_sso_pages,
    *sign_on.ENDPOINTS,
)

# What must happen with each stored event, inside the transaction that stores it.
AFTER_PERSIST: Final[Sequence[Consequence]] = (
    destinations_queue.QUEUE_EVENTS,
    stripped.STRIPPED_STATE,
    following.FORGET_UNSHARED,
    following.INTRODUCE,
    push_keeping.FORGET_REDACTED,
    media_references.NOTE_FILES,
    media_references.DROP_FILES,
    sticky.STICKY_EVENTS,
)

_KNOWN_KEYS: Final = 32 * MIB
_KNOWN_KEY: Final = 350  # bytes, roughly


class Server:
    """One running process of a server; `async with` starts and stops it.

    `addresses` are the listeners with their real ports. `linger_s`: for how long
    connections are kept at the end, until their next answer.

    One of several processes gets the sockets that were opened for each [[listen]], as
    `descriptors`, and knows its `siblings`.
    """

    def __init__(
        self,
        config: Config,
        dsn: str,
        *,
        descriptors: Sequence[Sequence[int]] = (),
        siblings: Siblings | None = None,
    ) -> None:
        self._config = config
        self._dsn = dsn
        self._descriptors = descriptors or [()] * len(config.listen)
        self._siblings = siblings or Siblings()
        self.linger_s = 0.0
        self._stack = contextlib.AsyncExitStack()
        self.addresses: list[Address] = []
        self.context: Context

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    async def _start(self) -> None:
        """Start what others need first; the stack stops it in the opposite order."""
        config, stack = self._config, self._stack
        key = signing_key.read_or_make(config.signing_key_path)
        urls, size = config.database_replica_urls, config.database_pool_size
        db = await stack.enter_async_context(opened(self._dsn, urls, size))
        wire = WireClient(config.server_name, key, wire_options(config))
        stack.push_async_callback(wire.close)
        live = Live(db, config.server_name, AFTER_PERSIST, wake_ups_of(config, db))
        await live.start()
        stack.push_async_callback(live.stop)
        self.context = ctx = Context(
            config=config,
            server_name=config.server_name,
            db=db,
            key=key,
            old_keys=signing_key.read_old(config.signing_key_path, key, Clock().ms()),
            wire=wire,
            live=live,
            clock=Clock(),
            known_keys=LruCache("server keys", _KNOWN_KEYS, _KNOWN_KEY),
            account_data_defaults=push_store.defaults(config.push),
            put_off=put_off,
        )
        live.retention = _retention(ctx)
        ctx.on_join.append(upgrades_settings.follow)
        ctx.parts.put(RemoteRooms())
        ctx.parts.put(Onlookers(live))
        for part in (Postman(ctx), IdentityServers(config, key)):
            ctx.parts.put(await stack.enter_async_context(part))
        ctx.parts.put(await stack.enter_async_context(sign_on.providers(ctx)))
        ctx.parts.put(PolicyServers())
        ctx.parts.put(await stack.enter_async_context(KeyChecks(config)))
        services = Services(config, db, live)
        ctx.parts.put(services)
        await stack.enter_async_context(services)
        authentication = Authentication(db, live, ctx.clock, services)
        authentication.start()
        stack.push_async_callback(authentication.stop)
        typing_ender = TypingEnder(db, live)
        typing_ender.start()
        stack.push_async_callback(typing_ender.stop)
        await stack.enter_async_context(Media(ctx))
        for work in _upkeep(ctx):
            await stack.enter_async_context(work)
        await stack.enter_async_context(pushing(ctx))
        await stack.enter_async_context(DelayedSender(ctx))
        await stack.enter_async_context(BridgeSender(ctx))
        await stack.enter_async_context(GuestWatch(ctx))
        if config.rooms.forget_on_leave:
            await stack.enter_async_context(Forgetter(ctx))
        await stack.enter_async_context(ProfileTeller(ctx))
        await stack.enter_async_context(DirectoryKeeper(ctx))
        await stack.enter_async_context(Farewells(ctx))
        if config.presence.enabled:
            await stack.enter_async_context(Attendance(ctx))
        await stack.enter_async_context(SearchIndexer(ctx))
        if config.federation.enabled:
            await stack.enter_async_context(Completer(ctx))
            await stack.enter_async_context(Retrier(ctx))
            sender = await stack.enter_async_context(Sender(ctx))
            await stack.enter_async_context(EphemeralWatch(ctx, sender))
            if config.presence.enabled:
                await stack.enter_async_context(PresenceTeller(ctx, sender))
        await self._listen(ctx, authentication)

    async def _listen(self, ctx: Context, authentication: Authentication) -> None:
        config = self._config
        raise_descriptor_limit()
        ctx.parts.put(await self._stack.enter_async_context(self._siblings))
        gate = Gate()
        gate.on_drain(ctx.live.stop_waiting)
        hall = Hall(
            context=ctx,
            authenticators=Authenticators(
                access_token=authentication.authenticate, server=authenticate_server
            ),
            limits=Limits(ctx.clock.monotonic, enabled=config.limits.enabled),
            gate=gate,
            proxies=Proxies(config.limits.trusted_proxies),
        )
        listeners = Listeners(hall, collect(ENDPOINTS))
        self._stack.push_async_callback(lambda: listeners.stop(linger_s=self.linger_s))
        self.addresses = await listeners.start(
            [
                Address(
                    bind=listen.bind,
                    port=listen.port,
                    serves=_served(config, listen.serves),
                    tls_certificate=listen.tls_certificate,
                    tls_key=listen.tls_key,
                    descriptors=descriptors,
                )
                for listen, descriptors in zip(
                    config.listen, self._descriptors, strict=True
                )
            ]
        )


def _retention(ctx: Context) -> Retention | None:
    """How long messages are kept, as far as the configuration has something deleted."""
    wanted = ctx.config.retention
    if not wanted.enabled:
        return None
    default, least, most = (
        hours * 3_600_000 or None
        for hours in (wanted.default_hours, wanted.least_hours, wanted.most_hours)
    )
    lives = Lifetimes(default, least, most)
    return Retention(ctx.live.view, ctx.live.events, ctx.clock.ms, lives)


def _upkeep(ctx: Context) -> Iterator[Periodic]:
    """What every process does now and then."""
    memory.show_wire(ctx.wire)
    watch = memory.Watch(ctx.config.memory.soft_limit_bytes)
    yield Periodic("memory", memory.EVERY_S, watch.look)
    yield Periodic(
        "forget-expired",
        accounts_tasks.EVERY_S,
        lambda: accounts_tasks.forget_expired(ctx),
    )
    yield Periodic(
        "forget-oauth", oauth_tasks.EVERY_S, lambda: oauth_tasks.forget_old(ctx)
    )
    yield Periodic(
        "forget-threepids",
        threepids_tasks.EVERY_S,
        lambda: threepids_tasks.forget_expired(ctx),
    )
    yield Periodic(
        "forget-transactions",
        transactions_tasks.EVERY_S,
        lambda: transactions_tasks.forget_old(ctx),
    )
    yield Periodic(
        "forget-delayed", delayed_tasks.EVERY_S, lambda: delayed_tasks.forget_old(ctx)
    )
    merger = Merger(ctx)
    yield Periodic("merge-extremities", merging.EVERY_S, merger.run)
    yield Periodic("redact-children", redactions.EVERY_S, lambda: redactions.go_on(ctx))
    yield Periodic(
        "retention", retention_tasks.EVERY_S, lambda: retention_tasks.purge(ctx)
    )
    yield Periodic("sticky-events", sticky.EVERY_S, lambda: sticky.forget_expired(ctx))
    yield Periodic(
        "forget-devices", devices_tasks.EVERY_S, lambda: devices_tasks.forget_old(ctx)
    )
    if ctx.config.presence.enabled:
        yield Periodic(
            "presence", presence_upkeep.EVERY_S, lambda: presence_upkeep.pass_time(ctx)
        )
        yield Periodic(
            "forget-presence",
            presence_upkeep.FORGET_EVERY_S,
            lambda: presence_upkeep.forget_old(ctx),
        )
    if ctx.config.federation.enabled:
        yield Periodic(
            "device-lists", following.EVERY_S, lambda: following.fetch_stale(ctx)
        )
    yield Periodic(
        "media-tidy", media_tasks.TIDY_EVERY_S, lambda: media_tasks.tidy(ctx)
    )
    yield Periodic(
        "media-sweep",
        media_tasks.SWEEP_EVERY_S,
        lambda: media_tasks.sweep_in_turn(ctx),
    )
    yield Periodic(
        "forget-connections",
        sliding_tasks.EVERY_S,
        lambda: sliding_tasks.forget_unused(ctx),
    )


def _served(config: Config, serves: Sequence[str]) -> Sequence[str]:
    if config.federation.enabled:
        return serves
    return [api for api in serves if api != "federation"]


def wire_options(config: Config) -> WireOptions:
    """How the configuration wants other servers to be reached."""
    federation = config.federation
    return WireOptions(
        verify_certificates=federation.verify_certificates,
        ca_file=federation.ca_file or None,
        allow_addresses=config.allowed_networks,
    )
