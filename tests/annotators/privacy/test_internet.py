"""E-mail addresses, IP addresses and URLs that carry credentials."""

from __future__ import annotations

import pytest

from tests.annotators.privacy.finding import found, values


@pytest.mark.parametrize(
    "address",
    [
        "ana@example.org",
        "ana.bell+lists@mail.example.co.uk",
        "o'brien@example.com",
        "AT&T@example.com",
        "ána@exämple.de",
        "ana\u0301@example.com",
        "почта@пример.рф",
        "अजय@डाटा.भारत",
        "ana@xn--exmple-cua.xn--p1ai",
        "ana@[192.0.2.1]",
        "ana＠example.com",
        "ana [at] example [dot] org",
        "ana(at)example.org",
    ],
)
def test_an_email_address_is_found_in_any_script_and_when_spelt_out(address: str) -> None:
    assert found(f"Write to {address}, please.", "email") == [("email", address)]


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("<mailto:ana@example.org>", "ana@example.org"),
        ("to='ana@example.org'", "ana@example.org"),
        ("?email=ana@example.org&x=1", "ana@example.org"),
        ("...ana@example.org.", "ana@example.org"),
        ("رسالة إلى ana@example.org شكرا", "ana@example.org"),
        ("👩‍💻ana@example.org👍", "ana@example.org"),
    ],
)
def test_an_email_address_ends_where_its_surroundings_begin(text: str, address: str) -> None:
    assert values(text, "email") == [address]


@pytest.mark.parametrize(
    "text", ["@ana", "ana@", "ana@localhost", "a @ b.com", "see me (at) work. Then", "x = y@z", "user@-.com", "5@3.7"]
)
def test_what_is_no_email_address_is_left(text: str) -> None:
    assert values(text, "email") == []


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("from 203.0.113.7:8080, twice", "203.0.113.7"),
        ("net 10.1.0.0/16", "10.1.0.0"),
        ("http://192.168.1.1/login", "192.168.1.1"),
        ("at 203.0.113.7.", "203.0.113.7"),
        ("from 2001:db8::8a2e:370:7334!", "2001:db8::8a2e:370:7334"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("fe80::1%eth0 is up", "fe80::1"),
        ("2001:db8::/32", "2001:db8::"),
        ("::ffff:203.0.113.7 came", "::ffff:203.0.113.7"),
        ("fe80::1: unreachable", "fe80::1"),
        ("6e40:4041:c617:e898:c11:40d2:c669:2eb4", "6e40:4041:c617:e898:c11:40d2:c669:2eb4"),
    ],
)
def test_an_ip_address_is_found_without_its_port_zone_or_prefix_length(text: str, address: str) -> None:
    assert values(text, "ip") == [address]


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1 and ::1 and 0.0.0.0",
        "mask 255.255.255.0",
        "version 1.2.3.4",
        "v1.2.3.4",
        "section 3.1.4.1",
        "300.1.2.3",
        "1.2.3",
        "1.2.3.4.5",
        "at 12:30:45",
        "std::dead::beef",
        "ab::cd",
        "aa:bb:cc:dd:ee:ff",
    ],
)
def test_what_is_nobodys_address_is_left(text: str) -> None:
    assert values(text, "ip") == []


@pytest.mark.parametrize(
    "url",
    [
        "https://ana:s3cret@example.com/path",
        "postgresql://ana:p%40ss@db.example.com:5432/shop?sslmode=require",
        "https://ghp_abc123@git.example.com/repo.git",
        "https://example.com/reset?user=1&token=abc",
        "https://example.com/#access_token=abc",
        "https://example.com/?X-Amz-Signature=ab12",
        "https://example.com/?api-key=abc",
        "https://example.com/?next=https://ana:pw@example.org",
        "example.com/reset?sid=12ab",
    ],
)
def test_a_url_that_carries_credentials_is_found_whole(url: str) -> None:
    assert found(f"See ({url}).", "url_credentials", "email") == [("url_credentials", url)]


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/?q=token",
        "https://example.com/?token=",
        "https://example.com/?monkey=1",
        "https://example.com/@ana/post",
        "https://example.com:8080/a@b",
        "https://example.com/token/abc",
    ],
)
def test_a_url_without_credentials_is_left(url: str) -> None:
    assert values(f"See {url} there", "url_credentials") == []
