"""HTTP to an address that a partner chose, so that it reaches that partner and nothing of ours (SSRF).

Invariants: a name is resolved once per request and the connection goes to exactly the address that was judged (a name that
changes its mind between the check and the connection changes nothing); a private address is reached only where the operator
allows it for this one record system; without TLS only a private one is; redirects are answers, never followed; no proxy of
the environment is used; an answer is read up to a limit and a deadline. Used by ``webhook.py``.
"""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx2

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_ANSWER_BYTES = 256 * 1024
_LONGEST_WAIT = 24 * 3600.0


class PrivateAddressError(Exception):
    """The address is, or resolves to, one inside a private network. Nothing was sent."""


class UnreachableError(Exception):
    """No whole answer came. ``connected`` is False when not even a connection was made."""

    def __init__(self, reason: str, *, connected: bool) -> None:
        super().__init__(reason)
        self.connected = connected


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


def retry_after(value: str, now: datetime) -> float | None:
    """Seconds that a ``Retry-After`` asks for (RFC 9110, 10.2.3: a number or a date), at most a day."""
    value = value.strip()
    if value.isascii() and value.isdecimal():
        return min(float(value), _LONGEST_WAIT)
    try:
        until = parsedate_to_datetime(value)
    except ValueError:
        return None
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    return min(max((until - now).total_seconds(), 0.0), _LONGEST_WAIT)


def is_public(address: Address) -> bool:
    """Whether it is on the public internet; an IPv4 address inside an IPv6 one is judged too."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
        if address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
        if inner is not None:
            return is_public(inner)
    return address.is_global and not address.is_multicast and not address.is_reserved


def judge(addresses: Sequence[Address], *, scheme: str, allow_private: bool) -> Sequence[Address]:
    """The addresses to try, in order. Raises :class:`PrivateAddressError`.

    One private address among public ones is enough to refuse: that is how a name is pointed at us.
    """
    private = [each for each in addresses if not is_public(each)]
    if private and not allow_private:
        raise PrivateAddressError("its address is inside a private network, which is not allowed for it")
    if scheme != "https" and len(private) != len(addresses):
        raise PrivateAddressError("its address is on the public internet, where only https:// is used")
    return addresses


def check_url(url: str, *, allow_private: bool) -> httpx2.URL:
    """A configured address, as far as it can be judged without resolving its name. Raises ``ValueError``."""
    parsed = httpx2.URL(url)
    if parsed.scheme not in ("https", "http") or not parsed.host:
        raise ValueError("its url must begin with https:// and name a host")
    if parsed.userinfo or parsed.fragment or parsed.query:
        raise ValueError("its url must have no user, query or fragment")
    if parsed.scheme == "http" and not allow_private:
        raise ValueError("its url must begin with https:// (http:// only with allow_private, inside a private network)")
    if (literal := _literal(parsed.host)) is not None:
        try:
            judge([literal], scheme=parsed.scheme, allow_private=allow_private)
        except PrivateAddressError as error:
            raise ValueError(str(error)) from None
    return parsed


class GuardedHttp:
    """One partner's address."""

    def __init__(self, url: str, *, allow_private: bool, concurrency: int) -> None:
        self.url = check_url(url, allow_private=allow_private)
        self._allow_private = allow_private
        self._http = httpx2.AsyncClient(
            follow_redirects=False,
            # A proxy that the environment happens to name must not see a child's record, and would undo the pinning.
            trust_env=False,
            timeout=None,  # one deadline over the whole request, below
            verify=_certificates(self.url.scheme),
            limits=httpx2.Limits(max_connections=concurrency, max_keepalive_connections=concurrency),
            headers={"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "ehcp-exchange/1"},
        )

    async def close(self) -> None:
        await self._http.aclose()

    async def request(
        self, method: str, *, headers: Mapping[str, str], timeout: float, content: bytes = b"", path: str = "", query: str = ""
    ) -> Answer:
        """``path`` and ``query`` are added to the partner's address. ``timeout``: seconds for everything together.

        Raises :class:`PrivateAddressError` or :class:`UnreachableError`.
        """
        url = self.url.copy_with(path=self.url.path.rstrip("/") + path, query=query.encode() or None)
        connected = False
        try:
            async with asyncio.timeout(timeout):
                addresses = judge(await _resolve(url), scheme=url.scheme, allow_private=self._allow_private)
                for address in addresses[:-1]:
                    try:
                        return await self._send(method, url, address, headers, content)
                    except httpx2.ConnectError:
                        continue  # not reached at all: the name's next address may be
                connected = True
                return await self._send(method, url, addresses[-1], headers, content)
        except TimeoutError:
            raise UnreachableError(f"it did not answer within {timeout:.2g} seconds", connected=connected) from None
        except (httpx2.ConnectError, OSError) as error:
            raise UnreachableError(f"it cannot be reached ({type(error).__name__})", connected=False) from None
        except (httpx2.TransportError, httpx2.DecodingError) as error:
            raise UnreachableError(f"its answer broke off ({type(error).__name__})", connected=True) from None

    async def _send(self, method: str, url: httpx2.URL, address: Address, headers: Mapping[str, str], content: bytes) -> Answer:
        pinned = url.copy_with(host=str(address))
        # The certificate is checked against the name, not against the address that it was resolved to.
        extensions = {"sni_hostname": url.host} if _literal(url.host) is None else {}
        sent = {**headers, "Host": url.netloc.decode("ascii")}
        async with self._http.stream(method, pinned, content=content, headers=sent, extensions=extensions) as response:
            body = bytearray()
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > _ANSWER_BYTES:
                    raise httpx2.DecodingError("too long an answer")
            return Answer(response.status_code, response.headers, bytes(body))


def _certificates(scheme: str) -> ssl.SSLContext:
    """The machine's own authorities, so that a council's internal one can be trusted, and the public ones in any case."""
    if scheme != "https":
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # never used, and trusts nobody; reading the authorities takes long
    context = httpx2.create_ssl_context(trust_env=False)
    context.load_default_certs()
    return context


async def _resolve(url: httpx2.URL) -> list[Address]:
    """The addresses of a URL's host, in the system's order. Raises ``OSError`` when there is none."""
    if (literal := _literal(url.host)) is not None:
        return [literal]
    port = url.port or (443 if url.scheme == "https" else 80)
    found = await asyncio.get_running_loop().getaddrinfo(url.host, port, type=socket.SOCK_STREAM)
    addresses = dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found)
    return [ipaddress.ip_address(each) for each in addresses]


def _literal(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None
