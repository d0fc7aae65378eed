"""Addresses: what is read, what is refused, and that nothing else can happen."""

from __future__ import annotations

import ipaddress
import os
import re
import secrets
import socket
from pathlib import Path
from types import MappingProxyType
from typing import Any

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wsockets.address import (
    SocketAddress,
    UnixAddress,
    ascii_name,
    format_address,
    parse_address,
)
from wsockets.errors import SocketError


def refused(address: Any, *, listening: bool = False) -> SocketError:
    with pytest.raises(SocketError) as caught:
        parse_address(address, listening=listening)
    assert caught.value.code == "address"
    assert str(caught.value).startswith("SocketError: ")
    return caught.value


# -- strings that are read


@pytest.mark.parametrize(
    ("text", "hostname", "port"),
    [
        ("example.com:443", "example.com", 443),
        ("localhost:0", "localhost", 0),
        ("localhost:65535", "localhost", 65535),
        ("Example.COM:80", "example.com", 80),
        ("example.com.:80", "example.com.", 80),
        ("_srv.host:1", "_srv.host", 1),
        ("my_host:1", "my_host", 1),
        ("a--b.c-:1", "a--b.c-", 1),
        ("1.example:1", "1.example", 1),
        ("0x1.example:1", "0x1.example", 1),
        ("x1:1", "x1", 1),
        ("deadbeef:1", "deadbeef", 1),
        ("xn--bcher-kva.example:1", "xn--bcher-kva.example", 1),
        ("Bücher.Example:1", "xn--bcher-kva.example", 1),
        ("my_host.bücher.example.:1", "my_host.xn--bcher-kva.example.", 1),
        ("faß.de:1", "xn--fa-hia.de", 1),
        ("ｅｘａｍｐｌｅ.com:1", "example.com", 1),
        ("127.0.0.1:80", "127.0.0.1", 80),
        ("0.0.0.0:80", "0.0.0.0", 80),
        ("[::1]:80", "::1", 80),
        ("[::]:0", "::", 0),
        ("[2001:DB8:0:0::0:1]:80", "2001:db8::1", 80),
        ("[::ffff:7f00:1]:80", "::ffff:127.0.0.1", 80),
        ("[::FFFF:127.0.0.1]:80", "::ffff:127.0.0.1", 80),
        ("[fe80::1%lo]:80", "fe80::1%lo", 80),
        ("[febf::1%2]:80", "febf::1%2", 80),
        ("unix:80", "unix", 80),
        ("a" * 63 + ":1", "a" * 63, 1),
        (".".join(["a" * 61] * 4) + ".abcde:1", ".".join(["a" * 61] * 4) + ".abcde", 1),
    ],
)
def test_a_host_and_a_port_are_read_into_normal_form(
    text: str, hostname: str, port: int
) -> None:
    address = parse_address(text)
    assert isinstance(address, SocketAddress)
    assert (address.hostname, address.port) == (hostname, port)
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    "path", ["/run/x.sock", "relative", "./80", "/a b", "a:1", "/" + "x" * 106, "é"]
)
def test_unix_leads_to_a_path(path: str) -> None:
    address = parse_address(f"unix:{path}")
    assert address == UnixAddress(path)
    assert str(address) == f"unix:{path}"


def test_a_path_in_any_bytes_fits_where_its_encoding_does() -> None:
    path = os.fsdecode(b"/" + b"\xff" * 106)
    assert parse_address(f"unix:{path}") == UnixAddress(path)


# -- strings that are refused

HOSTS = {
    "port 99999": "host:99999",
    "port 65536": "host:65536",
    "a very long port": "host:" + "9" * 5000,
    "no port": "host",
    "no host": ":80",
    "nothing": "",
    "only a colon": ":",
    "a trailing colon": "host:",
    "a sign": "host:+80",
    "a minus": "host:-1",
    "an underscore in the port": "host:8_0",
    "a leading zero": "host:080",
    "a hexadecimal port": "host:0x50",
    "an arabic port": "host:٨٠",
    "a fullwidth port": "host:８０",
    "a superscript port": "host:²",
    "a space before": " host:80",
    "a space inside": "ho st:80",
    "a space in the port": "host: 80",
    "a newline behind": "host:80\n",
    "CR LF": "host\r\nx:80",
    "NUL": "host\0:80",
    "NUL in the port": "host:80\0",
    "a C1 control character": "ho\x85st:80",
    "DEL": "host\x7f:80",
    "an ideographic space": "ho\u3000st:80",
    "a no-break space": "ho\xa0st:80",
    "a scheme": "http://host:80",
    "a scheme and no port": "https://host",
    "a path": "host:80/",
    "a path in the host": "host/x:80",
    "a backslash": "host\\x:80",
    "a query": "host:80?x",
    "a fragment": "host:80#x",
    "user information": "a@b:1",
    "a user and a password": "user:password@host:1",
    "a fullwidth at sign": "a＠b:1",
    "a fullwidth colon": "a：b:1",
    "a unicode dot": "a。b:1",
    "a halfwidth dot": "a｡b:1",
    "a fullwidth dot": "a．b:1",
    "a dot leader": "a․b:1",
    "a numbered dot": "a⒈b:1",
    "octal and short": "0177.1:80",
    "octal": "0177.0.0.1:80",
    "hexadecimal and short": "0x7f.1:80",
    "hexadecimal": "0x7f000001:80",
    "hexadecimal in capitals": "0X7F.1:80",
    "an empty hexadecimal number": "host.0x:80",
    "one number": "1:80",
    "decimal": "2130706433:80",
    "two numbers": "127.1:80",
    "three numbers": "127.0.1:80",
    "five numbers": "1.2.3.4.5:80",
    "a number over 255": "256.1.1.1:80",
    "a leading zero in an address": "127.0.0.01:80",
    "an address with a trailing dot": "127.0.0.1.:80",
    "a name that ends in a number": "host.1:80",
    "fullwidth digits": "１２７.0.0.1:80",
    "fullwidth digits throughout": "１２７．０．０．１:80",
    "a fullwidth number": "１:80",
    "a mathematical digit": "𝟏27.1:80",
    "an arabic number": "٣:80",
    "IPv6 without brackets": "::1:80",
    "IPv6 without brackets or port": "::1",
    "two ports": "host:80:80",
    "IPv6 without a port": "[::1]",
    "IPv6 with an empty port": "[::1]:",
    "IPv6 without the colon": "[::1]80",
    "something behind the bracket": "[::1]x:80",
    "an open bracket": "[::1:80",
    "an open bracket alone": "[",
    "a closing bracket": "::1]:80",
    "brackets with nothing": "[]:80",
    "brackets round IPv4": "[127.0.0.1]:80",
    "brackets round a name": "[host]:80",
    "brackets in brackets": "[[::1]]:80",
    "brackets in the name": "ho[s]t:80",
    "no IPv6 address": "[::g]:80",
    "too long an IPv6 address": "[1:2:3:4:5:6:7:8:9]:80",
    "octal in an IPv6 address": "[::ffff:0177.0.0.1]:80",
    "a prefix length": "[::1/64]:80",
    "a zone on loopback": "[::1%lo]:80",
    "a zone on a global address": "[2001:db8::1%eth0]:80",
    "a zone on a multicast address": "[ff02::1%eth0]:80",
    "a zone beyond fe80::/10": "[fec0::1%eth0]:80",
    "an empty zone": "[fe80::1%]:80",
    "a zone of two": "[fe80::1%a%b]:80",
    "a zone with a bracket": "[fe80::1%a]b]:80",
    "too long a zone": "[fe80::1%" + "a" * 16 + "]:80",
    "a zone outside ASCII": "[fe80::1%é]:80",
    "a zone on a name": "host%eth0:80",
    "a zone on IPv4": "169.254.0.1%eth0:80",
    "an empty label": "a..b:80",
    "an empty first label": ".a:80",
    "only a dot": ".:80",
    "two dots behind": "a..:80",
    "a leading hyphen": "-a:80",
    "a leading hyphen in a label": "a.-b:80",
    "a star": "*:80",
    "a semicolon": "a;b:80",
    "a percent sign": "a%41:80",
    "a long label": "a" * 64 + ":1",
    "a long name": ".".join(["a" * 61] * 4) + ".abcdef:1",
    "a very long name": "a." * 1000 + "a:1",
    "a long label outside ASCII": "é" * 64 + ":1",
    "a very long name outside ASCII": "é" * 5000 + ":1",
    "a lone surrogate": "\ud800:1",
    "a soft hyphen alone": "\xad:1",
    "a joiner out of place": "a\u200db:1",
    "a snowman": "☃.net:1",
    "a slash by IDNA": "a℀b:1",
    "an underscore in a label outside ASCII": "mé_x:1",
    "a bad A-label mixed with others": "xn--é:1",
}


@pytest.mark.parametrize("listening", [False, True])
@pytest.mark.parametrize("text", HOSTS.values(), ids=HOSTS.keys())
def test_a_malformed_address_is_refused(text: str, listening: bool) -> None:
    if listening and text == ":80":
        assert parse_address(text, listening=True) == SocketAddress("", 80)
    else:
        refused(text, listening=listening)


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("", "empty"),
        ("/a\0b", "NUL"),
        ("/" + "x" * 107, "108 bytes"),
        ("/" + "é" * 54, "109 bytes"),
        ("@abstract", "abstract"),
        ("/\ud800", "encoding"),
    ],
)
def test_a_path_that_no_socket_can_have_is_refused(path: str, why: str) -> None:
    assert why in str(refused(f"unix:{path}"))
    with pytest.raises(SocketError, match=why):
        UnixAddress(path)


def test_a_path_of_digits_is_a_port() -> None:
    with pytest.raises(SocketError, match="could be a port"):
        UnixAddress("80")
    refused("unix:65536")


def test_a_path_is_a_str() -> None:
    with pytest.raises(SocketError, match="not a str") as caught:
        UnixAddress(Path("/x"))  # type: ignore[arg-type]
    assert caught.value.code == "address"


# -- what an error says


def test_an_error_says_the_value_and_the_accepted_forms() -> None:
    text = str(refused("example.com"))
    assert "'example.com'" in text
    assert "port is missing" in text
    assert '"host:port"' in text


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("host:99999", "0 to 65535"),
        (":80", "hostname is empty"),
        ("https://host", "URL"),
        ("a@b:1", "user information"),
        ("host:80/x", "path or a query"),
        ("host\x01:80", r"control character, '\\x01'"),
        ("a。b:1", "a dot other than"),
        ("a..b:1", "label is empty"),
        ("0177.1:80", "ends in a number"),
        ("１.1.1.1:80", "in ASCII"),
        ("::1:80", "needs brackets"),
        ("[::1:80", r'"\]:port" is missing'),
        ("[::1]", "port is missing"),
        ("[::1%lo]:80", "link-local"),
        ("[fe80::1%]:80", "interface's name"),
        ("[]:80", "IPv6"),
        ("☃.net:1", "IDNA"),
    ],
)
def test_an_error_says_what_was_wrong(text: str, why: str) -> None:
    assert re.search(why, str(refused(text)))


@pytest.mark.parametrize(
    "text",
    [
        "postgres://me:hunter2@db:5432/x",
        "me:hunter2@db:5432",
        "me:p@hunter2@db:5432",
        "db:5432?password=hunter2",
        {"hostname": "me:hunter2@db", "port": 5432},
    ],
)
def test_an_error_shows_no_password(text: object) -> None:
    error: BaseException | None = refused(text)
    while error is not None:
        assert "hunter2" not in str(error)
        error = error.__cause__ or error.__context__


def test_an_error_is_short_and_on_one_line_whatever_it_is_about() -> None:
    for text in (
        "x" * 10**6,
        "\x01" * 10**6,
        "é" * 1000 + ":1",
        "☃" * 1000 + ":1",
        "[" + "1" * 10**6,
        "[" + "1" * 10**6 + "]:1",
    ):
        message = str(refused(text))
        assert len(message) < 600
        assert "\n" not in message


def test_what_idna_or_ipaddress_said_is_the_cause() -> None:
    assert isinstance(refused("☃.net:1").__cause__, UnicodeError)
    assert isinstance(refused("[::g]:1").__cause__, ipaddress.AddressValueError)


# -- objects


@pytest.mark.parametrize(
    ("hostname", "normal"),
    [
        ("::1", "::1"),
        ("[::1]", "::1"),
        ("fe80::1%eth0", "fe80::1%eth0"),
        ("[fe80::1%eth0]", "fe80::1%eth0"),
        ("127.0.0.1", "127.0.0.1"),
        ("Bücher.example", "xn--bcher-kva.example"),
        ("unix", "unix"),
    ],
)
def test_an_object_takes_ipv6_with_or_without_brackets(
    hostname: str, normal: str
) -> None:
    expected = SocketAddress(normal, 80)
    assert expected.hostname == normal
    for given_ in (
        {"hostname": hostname, "port": 80},
        MappingProxyType({"port": 80, "hostname": hostname, "tls": object()}),
        SocketAddress(hostname, 80),
        SocketAddress(hostname=hostname, port=80),
    ):
        assert parse_address(given_) == expected


@pytest.mark.parametrize(
    "mapping",
    [
        {},
        {"hostname": "a"},
        {"port": 1},
        {"hostname": "a", "port": None},
        {"hostname": None, "port": 1},
        {"hostname": "", "port": 1},
        {"hostname": b"a", "port": 1},
        {"hostname": 1, "port": 1},
        {"hostname": ["a"], "port": 1},
        {"hostname": "a", "port": "1"},
        {"hostname": "a", "port": True},
        {"hostname": "a", "port": 1.0},
        {"hostname": "a", "port": -1},
        {"hostname": "a", "port": 65536},
        {"hostname": "a", "port": 10**5000},
        {"hostname": "a", "port": -(10**5000)},
        {"hostname": "a:1", "port": 1},
        {"hostname": "[::1", "port": 1},
        {"hostname": "::1]", "port": 1},
        {"hostname": "[::1]:1", "port": 1},
        {"hostname": "[127.0.0.1]", "port": 1},
        {"hostname": "unix:/x", "port": 1},
        {"hostname": "a/b", "port": 1},
        {"hostname": "a b", "port": 1},
    ],
)
def test_a_malformed_object_is_refused(mapping: dict[str, object]) -> None:
    refused(mapping)


@pytest.mark.parametrize("thing", [None, 80, 1.5, b"a:1", ["a", 1], ("a", 1), object()])
def test_anything_but_a_str_or_an_object_is_refused(thing: object) -> None:
    assert '"host:port"' in str(refused(thing))


def test_an_address_that_was_read_is_taken_as_it_is() -> None:
    for address in (SocketAddress("a", 1), UnixAddress("/x")):
        assert parse_address(address) is address


def test_the_constructor_checks_the_types() -> None:
    with pytest.raises(SocketError, match="not a str"):
        SocketAddress(b"a", 1)  # type: ignore[arg-type]
    with pytest.raises(SocketError, match="not an int"):
        SocketAddress("a", "1")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("address", "member"),
    [
        (SocketAddress("a", 1), "hostname"),
        (SocketAddress("a", 1), "port"),
        (SocketAddress("a", 1), "other"),
        (UnixAddress("/x"), "path"),
    ],
)
def test_addresses_are_read_only(address: object, member: str) -> None:
    with pytest.raises(AttributeError):
        setattr(address, member, "b")


def test_equal_addresses_are_one_key() -> None:
    assert len({SocketAddress("[::1]", 1), SocketAddress("0::1", 1)}) == 1
    assert SocketAddress("a", 1) != SocketAddress("a", 2)


def test_a_changed_copy_is_checked_as_well() -> None:
    with pytest.raises(SocketError):
        attrs.evolve(SocketAddress("a", 1), port=-1)


# -- listening


@pytest.mark.parametrize(
    "address", [":80", {"hostname": "", "port": 80}, SocketAddress("", 80)]
)
def test_an_empty_hostname_is_for_listening_only(address: Any) -> None:
    listening = parse_address(address, listening=True)
    assert isinstance(listening, SocketAddress)
    assert (listening.hostname, listening.port) == ("", 80)
    assert listening.numeric is None
    assert str(listening) == ":80"
    assert "hostname is empty" in str(refused(address))


def test_listening_takes_paths_and_unspecified_addresses() -> None:
    assert parse_address("unix:/x", listening=True) == UnixAddress("/x")
    assert str(parse_address("[::]:0", listening=True)) == "[::]:0"


# -- numeric addresses


@pytest.mark.parametrize(
    ("hostname", "numeric"),
    [
        ("127.0.0.1", (socket.AF_INET, "127.0.0.1")),
        ("[::1]", (socket.AF_INET6, "::1")),
        ("fe80::1%lo", (socket.AF_INET6, "fe80::1%lo")),
        ("localhost", None),
        ("1.example", None),
        ("host1", None),
        ("example.", None),
    ],
)
def test_numeric_addresses_know_their_family(
    hostname: str, numeric: tuple[socket.AddressFamily, str] | None
) -> None:
    assert SocketAddress(hostname, 1).numeric == numeric


# -- names alone


def test_a_name_alone_is_brought_to_ascii() -> None:
    assert ascii_name("Bücher.Example.") == "xn--bcher-kva.example."


@pytest.mark.parametrize("text", ["", "127.0.0.1", "::1", "[::1]", "a b", "a\0", "a:1"])
def test_a_name_alone_is_no_address(text: str) -> None:
    with pytest.raises(SocketError) as caught:
        ascii_name(text)
    assert caught.value.code == "address"


# -- what the operating system reports


def test_the_names_of_tcp_sockets_are_formatted() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert format_address(server.getsockname()) == f"127.0.0.1:{port}"
    assert format_address(("::1", 443, 0, 0)) == "[::1]:443"


@pytest.mark.parametrize("host", ["fe80::1", "fe80::1%2"])
def test_a_link_local_name_has_its_interface(host: str) -> None:
    text = format_address((host, 443, 0, 2))
    assert text == "[fe80::1%2]:443"
    assert str(parse_address(text)) == text


def test_the_names_of_unix_sockets_are_formatted(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with (
        socket.socket(socket.AF_UNIX) as server,
        socket.socket(socket.AF_UNIX) as client,
    ):
        server.bind(path)
        server.listen()
        client.connect(path)
        assert format_address(client.getpeername()) == f"unix:{path}"
        assert format_address(client.getsockname()) == "unix:"


def test_an_abstract_name_is_shown_with_an_at_sign() -> None:
    name = secrets.token_hex(8)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"\0{name}")
        assert format_address(server.getsockname()) == f"unix:@{name}"
    assert format_address(b"\0\xff\0") == "unix:@\\xff@"


@pytest.mark.parametrize("name", [None, 5, (), ("a",), (1, 2), ("a", 1, 2), object()])
def test_the_name_of_another_family_is_refused(name: object) -> None:
    with pytest.raises(SocketError) as caught:
        format_address(name)
    assert caught.value.code == "address"


# -- properties

labels = st.from_regex(r"[a-z0-9_][a-z0-9_-]{0,20}", fullmatch=True)
names = st.builds(
    lambda parts, last, dot: ".".join([*parts, last]) + dot,
    st.lists(labels, max_size=4),
    st.from_regex(r"[a-wyz_][a-z0-9_-]{0,20}", fullmatch=True),
    st.sampled_from(["", "."]),
)
link_local = st.builds(
    lambda low, zone: f"{ipaddress.IPv6Address((0xFE80 << 112) | low)}%{zone}",
    st.integers(0, 2**64 - 1),
    st.from_regex(r"[A-Za-z0-9._~-]{1,15}", fullmatch=True),
)
hosts = st.one_of(
    names, st.ip_addresses(v=4).map(str), st.ip_addresses(v=6).map(str), link_local
)
ports = st.integers(0, 65535)
# Text made of what means something to a parser, and of what is mapped to it.
tricky = st.text(
    st.sampled_from(
        "0123456789abcdefxXg:.[]%/@?#\\ -_+\0\r\n。．１７ßéÉ٣\xad\u200d\ud800"
    ),
    max_size=30,
)
texts = st.one_of(
    st.text(),
    tricky,
    st.builds(lambda host, port: f"{host}:{port}", st.one_of(st.text(), tricky), ports),
    st.builds(lambda path: f"unix:{path}", st.one_of(st.text(), tricky)),
)
things = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.binary(), texts, hosts
    ),
    lambda inner: st.one_of(
        st.lists(inner), st.dictionaries(st.sampled_from(["hostname", "port"]), inner)
    ),
    max_leaves=5,
)


def is_sound(address: object) -> bool:
    """Whether an accepted address can mean one thing only."""
    if isinstance(address, UnixAddress):
        return 1 <= len(os.fsencode(address.path)) <= 107 and "\0" not in address.path
    assert isinstance(address, SocketAddress)
    host = address.hostname
    if address.numeric:
        family, ip = address.numeric
        number = ip.partition("%")[0]
        return socket.inet_ntop(family, socket.inet_pton(family, number)) == number
    if host.isascii() and host == host.lower() and host.isprintable():
        try:
            socket.inet_aton(host)
        except OSError:
            return True
    return False


@given(hosts, ports)
def test_what_is_written_is_read_back(host: str, port: int) -> None:
    address = SocketAddress(host, port)
    assert is_sound(address)
    assert parse_address(str(address)) == address
    assert parse_address({"hostname": host, "port": port}) == address
    assert SocketAddress(address.hostname, port).hostname == address.hostname


def check_any(address: Any, listening: bool = False) -> None:
    result: object
    try:
        result = parse_address(address, listening=listening)
    except SocketError as error:
        result = error
    if isinstance(result, SocketError):
        assert result.code == "address"
    else:
        assert is_sound(result)
        assert parse_address(str(result), listening=listening) == result


@given(texts, st.booleans())
@example("[fe80::1%a\n]:1", False)
@example("unix:٣", False)
def test_any_text_is_an_address_or_an_error(text: str, listening: bool) -> None:
    check_any(text, listening)


@given(things)
def test_any_value_is_an_address_or_an_error(thing: object) -> None:
    check_any(thing)


@given(
    st.fixed_dictionaries({"hostname": texts | hosts | things, "port": ports | things})
)
def test_any_object_is_an_address_or_an_error(mapping: dict[str, object]) -> None:
    check_any(mapping)


def spellings(number: int) -> st.SearchStrategy[str]:
    return st.sampled_from(
        [str(number), f"0{number:o}", f"0x{number:x}", f"0X{number:X}"]
    )


@given(
    st.lists(st.integers(0, 255).flatmap(spellings), min_size=1, max_size=4),
    st.sampled_from(["", "."]),
)
def test_a_number_is_never_a_name(parts: list[str], dot: str) -> None:
    host = ".".join(parts) + dot
    try:
        address = SocketAddress(host, 1)
    except SocketError:
        pass
    else:
        assert address.numeric == (socket.AF_INET, str(ipaddress.IPv4Address(host)))


@given(
    st.lists(labels, min_size=1, max_size=3),
    st.sampled_from("。．｡"),
    names,
)
def test_no_name_gains_a_dot(parts: list[str], dot: str, rest: str) -> None:
    with pytest.raises(SocketError):
        ascii_name(dot.join([*parts, rest]))
