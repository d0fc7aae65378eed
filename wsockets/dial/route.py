"""The way from an address to a connected socket: directly, or through a proxy."""

from __future__ import annotations

import inspect
import socket
from typing import final

from ..address import Address, SocketAddress, UnixAddress
from ..errors import SocketError
from ..runtime import Runtime
from .attempt import (
    Prepare,
    TcpTarget,
    close,
    connect_tcp,
    connect_unix,
    finish_tcp,
    start_tcp,
)
from .eyeballs import race
from .failures import Failure, at, combined, connect_failure
from .http_connect import http_connect
from .policy import Policy, judge
from .proxy import Proxy, parse_proxy
from .resolve import Resolver, resolve
from .socks import socks5

__all__ = ["Dialling", "check_dial", "dial"]


def check_dial(
    *,
    policy: object = None,
    proxy: object = None,
    proxy_resolve: object = False,
    resolver: object = None,
) -> Proxy | None:
    """Refuse what `dial` cannot do, before there is anything to dial.

    Gives the proxy, parsed. Raises SocketError "option" for a policy or resolver
    that cannot be called, a policy that is async, a malformed proxy, proxyResolve
    without a proxy, and proxyResolve with a policy, which would have to judge an
    address that only the proxy learns.
    """
    if policy is not None and not callable(policy):
        raise _option(
            f"policy is a function (host, address, port), not {type(policy).__name__}"
        )
    if inspect.iscoroutinefunction(policy):
        raise _option("policy answers at once: it cannot be an async function")
    if resolver is not None and not callable(resolver):
        raise _option(
            "resolver is an async function (host, port) -> [(family, ip)], not "
            f"{type(resolver).__name__}"
        )
    if not isinstance(proxy_resolve, bool):
        raise _option(
            f"proxyResolve is True or False, not {type(proxy_resolve).__name__}"
        )
    if proxy_resolve and proxy is None:
        raise _option("proxyResolve needs a proxy")
    if proxy_resolve and policy is not None:
        raise _option(
            "proxyResolve excludes a policy: where the proxy resolves the name, the "
            "address cannot be judged here"
        )
    return None if proxy is None else parse_proxy(proxy)


def _option(message: str) -> SocketError:
    return SocketError(message, code="option")


async def dial(
    runtime: Runtime,
    address: Address,
    *,
    policy: Policy | None = None,
    proxy: Proxy | None = None,
    proxy_resolve: bool = False,
    resolver: Resolver | None = None,
    prepare: Prepare | None = None,
) -> socket.socket:
    """Connect to `address`: a non-blocking socket, close-on-exec and TCP_NODELAY.

    `policy(host, address, port)` is asked before each connect(2), with the
    numeric address; for a unix socket both host and address are "unix:/path" and
    the port is 0. With a `proxy` the socket is connected to that, and what comes
    out of it is the target's; the policy sees both, and the proxy is given the
    numeric address, or with `proxy_resolve` the name. `resolver` replaces the
    system's; see `resolve`. `prepare` has each TCP socket before it connects.

    The caller sets the limit of time. May return without suspending; whatever
    ends it leaves no fd open.

    Raises SocketError: "address" for port 0, "dns", "policy", "refused",
    "unreachable", "timeout", "reset" or "os" (the most telling of several
    attempts, with all of them in the message), and "proxy" for all that goes
    wrong with a proxy but the policy. "option" for a unix socket through a proxy.
    """
    if isinstance(address, UnixAddress):
        if proxy is not None:
            raise _option(f"{address} cannot be reached through a proxy ({proxy})")
        return await _dial_unix(runtime, address, policy)
    if not address.port:
        raise SocketError(
            f"could not connect to {address}: port 0 stands for no service",
            code="address",
        )
    if proxy is not None:
        return await _dial_through(
            runtime, proxy, address, policy, proxy_resolve, resolver, prepare
        )
    return await _dial_tcp(runtime, address, policy, resolver, prepare)


@final
class Dialling:
    """`dial`, which takes the same, in two steps.

    Most of what it costs to connect to a numeric address nearby is the limit of
    time. `at_once` needs none; `finish` is for what it could not do.
    """

    __slots__ = (
        "_address",
        "_begun",
        "_policy",
        "_prepare",
        "_proxy",
        "_proxy_resolve",
        "_resolver",
        "_runtime",
    )

    def __init__(
        self,
        runtime: Runtime,
        address: Address,
        policy: Policy | None,
        proxy: Proxy | None,
        proxy_resolve: bool,
        resolver: Resolver | None,
        prepare: Prepare | None = None,
    ) -> None:
        self._runtime = runtime
        self._address = address
        self._policy = policy
        self._prepare = prepare
        self._proxy = proxy
        self._proxy_resolve = proxy_resolve
        self._resolver = resolver
        self._begun: tuple[socket.socket, TcpTarget] | None = None

    def at_once(self) -> socket.socket | None:
        """The connected socket, if there is nothing to wait for."""
        address = self._address
        if self._proxy is not None or not isinstance(address, SocketAddress):
            return None
        numeric = address.numeric
        if numeric is None or not address.port:
            return None
        family, ip = numeric
        _ask(self._policy, address, ip)
        try:
            sock, target = start_tcp(
                self._runtime, family, ip, address.port, self._prepare
            )
        except OSError as error:
            raise _failed(address, ip, error) from error
        if target is None:
            return sock
        self._begun = sock, target
        return None

    async def finish(self) -> socket.socket:
        """What `dial` gives; to be called after `at_once`, or without it."""
        address = self._address
        if self._begun is None:
            return await dial(
                self._runtime,
                address,
                policy=self._policy,
                proxy=self._proxy,
                proxy_resolve=self._proxy_resolve,
                resolver=self._resolver,
                prepare=self._prepare,
            )
        sock, target = self._begun
        try:
            await finish_tcp(self._runtime, sock, target)
        except OSError as error:
            assert isinstance(address, SocketAddress)
            raise _failed(address, address.hostname, error) from error
        return sock


async def _dial_unix(
    runtime: Runtime, address: UnixAddress, policy: Policy | None
) -> socket.socket:
    where = str(address)
    if refused := judge(policy, where, where, 0, where):
        raise refused.error
    try:
        return await connect_unix(runtime, address.path)
    except OSError as error:
        raise connect_failure(where, error).error from error


async def _dial_tcp(
    runtime: Runtime,
    address: SocketAddress,
    policy: Policy | None,
    resolver: Resolver | None,
    prepare: Prepare | None,
) -> socket.socket:
    host, port = address.hostname, address.port
    numeric = address.numeric
    if numeric is None:
        addresses = await resolve(runtime, host, port, resolver)
        if len(addresses) > 1:
            return await race(runtime, host, port, addresses, policy, prepare)
        numeric = addresses[0]
    family, ip = numeric
    _ask(policy, address, ip)
    try:
        return await connect_tcp(runtime, family, ip, port, prepare)
    except OSError as error:
        raise _failed(address, ip, error) from error


def _ask(policy: Policy | None, address: SocketAddress, ip: str) -> None:
    """Raise the SocketError of a policy that refuses the only address there is."""
    if policy is None:
        return
    host, port = address.hostname, address.port
    if refused := judge(policy, host, ip, port, at(ip, port)):
        raise combined(str(address), [refused])


def _failed(address: SocketAddress, ip: str, error: OSError) -> SocketError:
    failure = connect_failure(at(ip, address.port), error)
    return combined(str(address), [failure])


async def _dial_through(
    runtime: Runtime,
    proxy: Proxy,
    address: SocketAddress,
    policy: Policy | None,
    proxy_resolve: bool,
    resolver: Resolver | None,
    prepare: Prepare | None,
) -> socket.socket:
    """Each address of the target in turn, as the proxy may reach only some."""
    host, port = address.hostname, address.port
    numeric = address.numeric
    if proxy_resolve:
        hosts = [host]
    elif numeric is not None:
        hosts = [numeric[1]]
    else:
        hosts = [ip for _, ip in await resolve(runtime, host, port, resolver)]
    failures: list[Failure] = []
    for ip in hosts:
        where = at(ip, port)
        if refused := judge(policy, host, ip, port, where):
            failures.append(refused)
            continue
        if "%" in ip:
            raise SocketError(
                f"could not connect to {where} through {proxy}: a zone id means "
                "nothing to a proxy",
                code="proxy",
            )
        sock = await _reach(runtime, proxy, policy, resolver, prepare)
        answer = await _tunnel(runtime, sock, proxy, ip, port)
        if answer is None:
            return sock
        failures.append(
            Failure(
                where,
                answer,
                SocketError(
                    f"could not connect to {where} through {proxy}: {answer}",
                    code="proxy",
                ),
            )
        )
    raise combined(str(address), failures)


async def _reach(
    runtime: Runtime,
    proxy: Proxy,
    policy: Policy | None,
    resolver: Resolver | None,
    prepare: Prepare | None,
) -> socket.socket:
    try:
        return await _dial_tcp(runtime, proxy.address, policy, resolver, prepare)
    except SocketError as error:
        raise SocketError(
            f"could not reach the proxy {proxy}: {_text(error)}",
            code="policy" if error.code == "policy" else "proxy",
            errno=error.errno,
        ) from error.with_traceback(None)


async def _tunnel(
    runtime: Runtime, sock: socket.socket, proxy: Proxy, host: str, port: int
) -> str | None:
    """Open the tunnel on `sock`, which is closed unless it is there.

    None if it is; else why the proxy could not reach this address.
    """
    answer: str | None = "unknown"
    try:
        if proxy.scheme == "http":
            answer = await http_connect(runtime, sock, proxy, at(host, port))
        else:
            answer = await socks5(runtime, sock, proxy, host, port)
    except (OSError, EOFError) as error:
        why = getattr(error, "strerror", None) or "it ended before its answer did"
        raise SocketError(
            f"the connection to the proxy {proxy} failed: {why}",
            code="proxy",
            errno=getattr(error, "errno", None),
        ) from error.with_traceback(None)
    finally:
        if answer is not None:
            close(runtime, sock)
    return answer


def _text(error: SocketError) -> str:
    return str(error).removeprefix("SocketError: ")
