"""Filters and names of entries: what a client sends stays one value."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ldaptor.protocols import pureber, pureldap
from ldaptor.protocols.ldap.distinguishedname import RelativeDistinguishedName

from txregistry.ldap.templates import FilterTemplate, escaped, filled_name

HOSTILE = ["*)(uid=*", "*", "(", ")", "\\", "\\2a", "a)(|(cn=*", "é", "{name}", "{dn}", "a*b", " "]


def sent(template: str, name: str) -> bytes:
    """What goes to the server."""
    wire: bytes = FilterTemplate.parse(template, "name", "dn").fill(name=name, dn="cn=x").toWire()
    return wire


def decoded(wire: bytes) -> Any:
    context = pureldap.LDAPBERDecoderContext_Filter(fallback=pureber.BERDecoderContext())
    found, length = pureber.berDecodeObject(context, wire)
    assert length == len(wire)
    return found


@pytest.mark.parametrize("name", HOSTILE)
def test_a_value_stays_a_value(name: str) -> None:
    found = decoded(sent("(uid={name})", name))
    assert isinstance(found, pureldap.LDAPFilter_equalityMatch)
    assert found.attributeDesc.value == b"uid"
    assert found.assertionValue.value == name.encode()


@given(st.text(st.characters(codec="utf-8")))
def test_any_value_stays_a_value(name: str) -> None:
    found = decoded(sent("(&(objectClass=person)(|(uid={name})(mail={name}@example.org)))", name))
    assert isinstance(found, pureldap.LDAPFilter_and)
    either = found.data[1]
    assert isinstance(either, pureldap.LDAPFilter_or)
    values = [each.assertionValue.value for each in either.data]
    assert values == [name.encode(), name.encode() + b"@example.org"]


def test_every_kind_of_filter() -> None:
    parts = decoded(sent("(&(objectClass=*)(!(uid={name}))(age>=3)(age<=9)(cn~=y))", "n")).data
    assert [type(part).__name__ for part in parts] == [
        "LDAPFilter_present",
        "LDAPFilter_not",
        "LDAPFilter_greaterOrEqual",
        "LDAPFilter_lessOrEqual",
        "LDAPFilter_approxMatch",
    ]
    assert b"\x80\x01a\x81\x01b\x82\x02*c" in sent("(|(cn=a*b*\\2ac)(uid={name}))", "n")
    rule = sent("(memberOf:1.2.840.113556.1.4.1941:={dn})", "n")
    assert rule == b"\xa9\x29\x81\x171.2.840.113556.1.4.1941\x82\x08memberOf\x83\x04cn=x"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "needs"),
        ("(uid=alice)", "needs {name}"),
        ("uid={name}", "no filter"),
        ("(uid={name}", "no filter"),
        ("(uid={name}))", "no filter"),
        ("(&(uid={name})", "no filter"),
        ("(&)(uid={name})", "no filter"),
        ("(!(uid={name})(cn=x))", "no filter"),
        ("(uid={name})(cn=x)", "no filter"),
        ("(={name})", "no filter"),
        ("(uid>={name}*)", "no filter"),
        ("(uid={name}(x)", "no filter"),
        ("(uid={name}\\zz)", "no filter"),
        ("(uid {name})", "no filter"),
        ("(&(uid={name})(cn={nam}))", "has {nam}"),
        ("(!" * 30 + "(uid={name})" + ")" * 30, "no filter"),
    ],
)
def test_what_is_no_filter_is_told(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        FilterTemplate.parse(text, "name")
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("alice", "alice"),
        ("a,ou=b", "a\\,ou\\=b"),
        ("#a", "\\#a"),
        (" a ", "\\ a\\ "),
        (" ", "\\ "),
        ('"a"+<b>;', '\\"a\\"\\+\\<b\\>\\;'),
        ("\\", "\\\\"),
        ("a\0b\n", "a\\00b\\0a"),
        ("Lučić", "Lučić"),
    ],
)
def test_names_of_entries(value: str, written: str) -> None:
    """The examples of RFC 4514 section 4, among others."""
    assert escaped(value) == written


@given(st.text(st.characters(codec="utf-8", exclude_characters="\r"), min_size=1))
def test_a_name_stays_one_component(value: str) -> None:
    whole = filled_name("uid={name},ou=people", value)
    assert whole.endswith(",ou=people")
    part = RelativeDistinguishedName(whole.removesuffix(",ou=people")).split()
    assert len(part) == 1
    assert part[0].attributeType == "uid"
