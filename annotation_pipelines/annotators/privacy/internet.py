"""Personal data with a syntax of its own: e-mail addresses, IP addresses, URLs that carry credentials.

Every expression takes time linear in the text, whatever the text.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from annotation_pipelines.annotators.privacy.findings import Finding

# Accents and vowel signs that stand as characters of their own, which are no letters to a regular expression.
_MARKS = "\u0300-\u036f\u0590-\u05c7\u0610-\u065f\u0900-\u0dff\u0e00-\u0e7f"
_WORD = rf"\w{_MARKS}"
# A run of these is tried once, from its start, and never given back: linear also where no "@" follows.
_RUN = rf"(?<![{_WORD}.%+-])[{_WORD}.%+-]++"
_LABEL = rf"[^\W_][{_WORD}-]{{0,62}}"
_TOP_LEVEL = rf"(?:xn--[\w-]{{1,59}}|[^\W\d_](?:[^\W\d_]|[{_MARKS}]){{1,62}})"
_EMAIL = re.compile(
    rf"{_RUN}(?:['’&][{_WORD}.%+-]++){{0,3}}[@＠]"
    rf"(?:(?:{_LABEL}\.){{1,8}}{_TOP_LEVEL}|\[(?:IPv6:)?[\da-fA-F.:]{{3,45}}\])"
)
_SPELT_AT = re.compile(r"[\[({] ?at ?[\])}]", re.IGNORECASE)
_SPELT_EMAIL = re.compile(
    rf"{_RUN} ?[\[({{] ?at ?[\])}}] ?{_LABEL}(?:(?:\.| ?[\[({{] ?dot ?[\])}}] ?| dot ){_LABEL}){{1,8}}", re.IGNORECASE
)


def emails(text: str) -> Iterator[Finding]:
    """E-mail addresses, in any script, and such as ana [at] example [dot] org."""
    if "@" in text or "＠" in text:
        for match in _EMAIL.finditer(text):
            start = match.start() + _leading(match[0])
            yield Finding(start, match.end(), "email")
    if _SPELT_AT.search(text):
        for match in _SPELT_EMAIL.finditer(text):
            yield Finding(match.start(), match.end(), "email")


def _leading(address: str) -> int:
    """Punctuation before an address that no mailbox begins with."""
    return len(address) - len(address.lstrip(".%+-"))


_OCTET = r"(?:25[0-5]|2[0-4]\d|1\d\d|0?[1-9]\d|0{0,2}\d)"
_IPV4 = re.compile(rf"(?<![\w.])(?:{_OCTET}\.){{3}}{_OCTET}(?!\w|\.\d)", re.ASCII)
_IPV6 = re.compile(
    r"(?<![\w:.])(?:[0-9A-Fa-f]{1,4}|:)(?::[0-9A-Fa-f]{0,4}){1,8}(?:(?<=:)(?:\d{1,3}\.){3}\d{1,3})?(?![\w:])", re.ASCII
)
_VERSION = re.compile(r"\b(?:v|ver|version|release|build|firmware|section|chapter|clause|article)\W{0,3}$|§ ?$", re.I)
_WIDEST_VERSION = 12  # characters that _VERSION may look back on


def ip_addresses(text: str) -> Iterator[Finding]:
    """IP addresses of both versions, without the port, the zone or the prefix length after them.

    Addresses that belong to nobody are left: loopback, unspecified, and net masks (255.x.x.x). So are version and
    section numbers of four parts, where the word before says so.
    """
    if text.count(".") >= 3:
        for match in _IPV4.finditer(text):
            first = int(match[0].partition(".")[0])
            if first in (0, 127, 255) or _VERSION.search(text[max(0, match.start() - _WIDEST_VERSION) : match.start()]):
                continue
            yield Finding(match.start(), match.end(), "ip")
    if text.count(":") >= 2:
        for match in _IPV6.finditer(text):
            found = match[0][:-1] if match[0].endswith(":") and not match[0].endswith("::") else match[0]
            if _is_somebodys_ipv6(found):
                yield Finding(match.start(), match.start() + len(found), "ip")


def _is_somebodys_ipv6(found: str) -> bool:
    try:
        address = ipaddress.IPv6Address(found)
    except ValueError:
        return False
    if address.is_loopback or address.is_unspecified:
        return False
    # ab::cd is a name in some programming languages, and face::bed a joke
    return any(c.isdigit() for c in found) or found.count(":") > 3


_URL = re.compile(r"(?<![\w+.-])[A-Za-z][A-Za-z0-9+.\-]{0,30}://[^\s<>\"`]++")
_BARE_URL = re.compile(
    r"(?<![\w@.:/-])(?:[^\W_][\w-]{0,62}\.){1,8}[^\W\d_]{2,24}(?::\d{1,5})?(?:/[^\s<>\"`?#]*+)?[?#][^\s<>\"`]++"
)
_USER_INFO = re.compile(r"://[^/?#\s]*[^/?#\s@]@")
_PARAMETER = re.compile(r"[?&;#]([^=&;#?]{1,64})=(?=[^&;#\s])")
_SECRET = re.compile(
    r"(?:token|secret|password|passwd|passphrase|pwd|apikey|accesskey|accesskeyid|privatekey|authkey|subscriptionkey|"
    r"signature|credential|credentials|sessionid|jwt)$|^(?:key|auth|authorization|pass|pw|sig|sid|session)$"
)
_AFTER_URL = ".,;:!?)]}'’”»*_"


def urls_with_credentials(text: str) -> Iterator[Finding]:
    """Whole URLs with user information (user:password@) or with a secret among their parameters.

    A parameter of query or fragment is a secret by its name: one that ends with token, secret, password, api_key,
    signature, credential and the like, or that is key, auth, pass, sig, sid or session.
    """
    found = _URL.finditer(text) if "://" in text else iter(())
    for match in found:
        url = match[0].rstrip(_AFTER_URL)
        if _USER_INFO.search(url, 0, 2_100) or _has_secret(url):
            yield Finding(match.start(), match.start() + len(url), "url_credentials")
    if "=" in text and ("?" in text or "#" in text):
        for match in _BARE_URL.finditer(text):
            url = match[0].rstrip(_AFTER_URL)
            if _has_secret(url):
                yield Finding(match.start(), match.start() + len(url), "url_credentials")


def _has_secret(url: str) -> bool:
    return any(_SECRET.search(re.sub(r"[-_.]", "", match[1]).lower()) for match in _PARAMETER.finditer(url))
