"""The grammar of addresses and selectors, by properties and by examples."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseml_core.domain.addresses import Address, parse_address, parse_selector, short_form
from fuseml_core.domain.errors import FusemlError, Invalid
from fuseml_core.domain.names import HEX_LIKE

names = st.from_regex(r"[a-z0-9](?:[a-z0-9_-]{0,10}[a-z0-9])?", fullmatch=True).filter(lambda n: not HEX_LIKE.match(n))
kinds = st.sampled_from(["codeset", "model", "dataset", "runnable"])
hexdigits = st.text("0123456789abcdef", min_size=64, max_size=64)


@st.composite
def addresses(draw):
    kind, project, name = draw(kinds), draw(names), draw(names)
    digest = draw(hexdigits)
    version = draw(st.sampled_from([
        {}, {"digest": f"git:{digest[:40]}"}, {"digest": f"sha256:{digest}"}, {"short": digest[: draw(st.integers(7, 63))]},
        {"alias": draw(names)}, {"number": draw(st.integers(1, 10**6))}]))
    return Address(kind, project, name, **version)


@given(addresses())
def test_r184_formatting_and_parsing_are_inverse(address):
    """Whatever is printed is read again as the same."""

    assert parse_address(str(address)) == address


@given(st.text(max_size=60))
def test_r184_any_text_is_read_or_refused_with_a_sentence(text):
    """No input meets a defect."""
    for read in (parse_address, parse_selector):
        try:
            read(text, "p")
        except FusemlError as error:
            assert str(error)


@given(kinds, names, names, hexdigits)
def test_r184_the_short_form_of_tables_is_an_address(kind, project, name, digest):
    """What a table shows can be typed."""
    full = f"{'git' if kind == 'codeset' else 'sha256'}:{digest[:40] if kind == 'codeset' else digest}"

    read = parse_address(short_form(kind, project, name, full))

    assert (read.kind, read.project) == (kind, project)
    assert full.partition(":")[2].startswith(read.short)


@given(names, names)
def test_r180_a_star_covers_every_name_of_its_project_and_no_other(project, name):
    """`code://*` is about the current project."""
    selector = parse_selector("code://*", project)

    assert selector.covers("codeset", project, name)
    assert not selector.covers("codeset", project + "x", name)
    assert not selector.covers("model", project, name)


@pytest.mark.parametrize(("text", "expected"), [
    ("code://myproj/myapp/f3b0924", Address("codeset", "myproj", "myapp", short="f3b0924")),
    ("model://myproj/4c88e8f252be0a8e1e8e3", Address("model", "myproj", "", short="4c88e8f252be0a8e1e8e3")),
    ("code://myapp", Address("codeset", "here", "myapp")),
    ("model://p/churn:prod", Address("model", "p", "churn", alias="prod")),
    ("runnable://fuseml/mlflow/builder", Address("runnable", "fuseml", "mlflow/builder")),
])
def test_r184_the_forms_of_the_design_document(text, expected):
    """Both shapes of the document, and their relatives."""
    assert parse_address(text, "here") == expected


@pytest.mark.parametrize(("text", "phrase"), [
    ("myapp", "not an address"), ("code://", "not an address"), ("Code://a", "not an address"),
    ("code://p//a", "empty part"), ("code://p/UPPER", "cannot name"), ("code://p/../x", "cannot name"),
    ("code://*", "selects many"), ("code://p/a@sha256:zz", "not a version"), ("code://p/a@v0", "not a version"),
    ("model://p/deadbeef/x", "looks like a version"),
])
def test_r184_what_is_no_address_is_refused(text, phrase):
    """Each message says what is wrong."""
    with pytest.raises(Invalid, match=phrase):
        parse_address(text, "here")


@pytest.mark.parametrize(("text", "phrase"), [
    ("code://*?colour=red", "not a predicate"), ("code://p/a@v1", "names one version"), ("code://p/a:", "not an alias"),
])
def test_r180_what_is_no_selector_is_refused(text, phrase):
    """Each message says what is wrong."""
    with pytest.raises(Invalid, match=phrase):
        parse_selector(text, "here")


def test_r80_a_selector_carries_predicates_and_a_change_filter():
    """Everything after ? and #."""
    selector = parse_selector("code://my*?branch=dev&label.team!=core#MLproject,src/**", "p")

    assert selector.predicates == (("branch", "=", "dev"), ("label.team", "!=", "core"))
    assert selector.globs == ("MLproject", "src/**")
    assert selector.covers("codeset", "p", "myapp")
    assert not selector.covers("codeset", "p", "other")
