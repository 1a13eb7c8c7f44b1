"""Rules about what a bundle says of itself: to people who choose it, and to those who answer for what it may do."""

from __future__ import annotations

import re

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

from fuseml_oci.bundles.build import MANIFEST_FILE
from fuseml_oci.bundles.lint.rules import Found, Severity, rule
from fuseml_oci.bundles.lint.subject import Subject
from fuseml_sdk.errors import InvalidInput
from fuseml_sdk.permissions import KINDS, parse, secret_settings
from fuseml_sdk.versions import parse_range

#: What `bundle new` writes where the author has to say something.
PLACEHOLDER = "Say here"
_README = "README.md"
_LINK = re.compile(r"!?\[[^\]]*\]\(\s*<?([^)\s>]+)")
_RAW = re.compile(r"<\s*(script|iframe|object|embed|form|style|base|meta|link)\b|<[^>]*\bon\w+\s*=|javascript:",
                  re.IGNORECASE)
_VAGUE = re.compile(r"\b(todo|tbd|fixme|because|needed|required|n/?a)\b\.?$", re.IGNORECASE)
_SECRET_NAME = re.compile(r"(^|_)(token|password|passwd|secret|credentials?|(api|access|private)_?key)($|_)",
                          re.IGNORECASE)
#: What says the type of a setting beside `type`.
_TYPED = frozenset({"enum", "const", "anyOf", "oneOf", "$ref"})


@rule("B101", Severity.WARNING, reason="The README is the page on which people decide whether they want the extension.",
      fix="Write what it does, what it needs and one example.")
def has_a_readme(bundle: Subject) -> Found:
    """The bundle has a README.md that says more than a title."""
    text = bundle.text(_README)
    if text is None:
        yield _README, "the bundle has no README.md"
    elif len(text.split()) < 20:
        yield _README, f"the README has {len(text.split())} words"


@rule("B102", Severity.WARNING, reason="Text that a tool wrote tells nobody anything.",
      fix="Replace each sentence that begins with `Say here`.")
def readme_is_not_the_templates(bundle: Subject) -> Found:
    """Neither README nor manifest still has the sentences that `bundle new` wrote."""
    for number, line in enumerate((bundle.text(_README) or "").splitlines(), start=1):
        if PLACEHOLDER in line:
            yield f"{_README}:{number}", f"still the template's: {line.strip()[:60]!r}"
    manifest = bundle.manifest
    for field, text in (("summary", manifest.summary), ("description", manifest.description),
                        *((f"permissions.{p.name}", p.reason) for p in manifest.permissions)):
        if PLACEHOLDER in text:
            yield f"{MANIFEST_FILE}: {field}", f"still the template's: {text.strip()[:60]!r}"


@rule("B103", Severity.WARNING, reason="Pages show the README alone; the files that it links to are elsewhere.",
      fix="Write whole https:// addresses.")
def readme_links_work_anywhere(bundle: Subject) -> Found:
    """The README links to addresses, not to files beside it."""
    for number, line in enumerate((bundle.text(_README) or "").splitlines(), start=1):
        for target in _LINK.findall(line):
            if not re.match(r"(https?://|mailto:|#)", target):
                yield f"{_README}:{number}", f"{target[:80]!r} is not an address that pages can show"


@rule("B104", Severity.WARNING, reason="Pages take such markup out; what depends on it is not seen.",
      fix="Write plain Markdown.")
def readme_is_plain_markdown(bundle: Subject) -> Found:
    """The README has no scripts, frames, forms, styles or event handlers."""
    for number, line in enumerate((bundle.text(_README) or "").splitlines(), start=1):
        if match := _RAW.search(line):
            yield f"{_README}:{number}", f"{match[0][:40]!r} is not Markdown"


@rule("B105", Severity.WARNING, reason="The next major version may change what the extension relies on; without a "
      "bound it is installed there and fails.", fix='Write an upper bound, such as requires_fuseml = ">=0.1,<1".')
def engine_range_is_bounded(bundle: Subject) -> Found:
    """`requires_fuseml` has a lower and an upper bound."""
    for what, has in (("lower", _is_bounded(bundle.manifest.requires_fuseml, (">=", ">", "=="))),
                      ("upper", _is_bounded(bundle.manifest.requires_fuseml, ("<", "<=", "==")))):
        if not has:
            yield f"{MANIFEST_FILE}: requires_fuseml", f"{bundle.manifest.requires_fuseml!r} has no {what} bound"


@rule("B106", Severity.WARNING, reason="A dependency's next major version may change what this one uses of it.",
      fix='Write an upper bound, such as range = ">=0.1,<1".')
def dependency_ranges_are_bounded(bundle: Subject) -> Found:
    """Every dependency has an upper bound."""
    for dependency in bundle.manifest.dependencies:
        if not _is_bounded(dependency.range, ("<", "<=", "==")):
            yield (f"{MANIFEST_FILE}: dependencies.{dependency.name}",
                   f"the range {dependency.range!r} has no upper bound")


@rule("B107", Severity.WARNING, reason="Without a licence nobody may use it; tools compare SPDX identifiers.",
      fix='Write an SPDX expression, such as licence = "Apache-2.0". https://spdx.org/licenses/')
def licence_is_an_spdx_expression(bundle: Subject) -> Found:
    """The licence is there, as an SPDX expression."""
    licence = bundle.manifest.licence
    if not licence:
        yield f"{MANIFEST_FILE}: licence", "there is no licence"
        return
    try:
        proper = canonicalize_license_expression(licence)
    except InvalidLicenseExpression:
        yield f"{MANIFEST_FILE}: licence", f"{licence!r} is not an SPDX expression"
        return
    if proper != licence:
        yield f"{MANIFEST_FILE}: licence", f"SPDX writes {licence!r} as {proper!r}", f"Write {proper}."


@rule("B108", Severity.WARNING, reason="Whoever installs the extension is shown the reason and decides by it.",
      fix="Say in a sentence what the permission is used for, and with whom it talks.")
def permissions_are_explained(bundle: Subject) -> Found:
    """Every permission has a reason that explains something."""
    for permission in bundle.manifest.permissions:
        words = permission.reason.split()
        if len(words) < 4 or _VAGUE.fullmatch(permission.reason.strip()) or re.match(r"(todo|tbd)\b", words[0], re.I):
            yield f"{MANIFEST_FILE}: permissions.{permission.name}", f"{permission.reason!r} explains nothing"


@rule("B109", Severity.WARNING, reason="Asked for twice it is read twice, and one of the reasons is overlooked.",
      fix="Join the entries.")
def permissions_are_listed_once(bundle: Subject) -> Found:
    """No permission is listed twice."""
    names = [permission.name for permission in bundle.manifest.permissions]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"{MANIFEST_FILE}: permissions.{name}", "listed twice"


@rule("B116", Severity.ERROR, reason="What a server does not understand it refuses to install.",
      fix=f"Use one of {', '.join(KINDS)}.")
def permissions_are_known(bundle: Subject) -> Found:
    """Every permission is in the vocabulary, and every `secrets:NAME` names a secret setting."""
    manifest = bundle.manifest.model_dump(mode="json")
    for permission in bundle.manifest.permissions:
        where = f"{MANIFEST_FILE}: permissions.{permission.name[:80]}"
        try:
            declared = parse(permission.name)
        except InvalidInput as error:
            yield where, error.message
            continue
        if declared.kind.form == "secrets:NAME" and declared.argument not in secret_settings(manifest):
            yield where, f"config_schema has no setting {declared.argument} that is marked writeOnly"


@rule("B110", Severity.NOTICE, reason="Pages and lists show it beside the name.",
      fix='Draw a square SVG and write icon = "icon.svg".')
def has_an_icon(bundle: Subject) -> Found:
    """The extension has an icon."""
    if not bundle.manifest.icon:
        yield f"{MANIFEST_FILE}: icon", "there is no icon"


@rule("B111", Severity.NOTICE, reason="People look for the source before they trust, and to report problems.",
      fix='Write links = {source = "https://…"}.')
def links_to_its_source(bundle: Subject) -> Found:
    """The manifest links to the source."""
    if "source" not in bundle.manifest.links:
        yield f"{MANIFEST_FILE}: links.source", "there is no link to the source"


@rule("B112", Severity.WARNING, reason="Other links are shown as they are and do nothing, or something unwanted.",
      fix="Write whole https:// addresses.")
def links_are_addresses(bundle: Subject) -> Found:
    """Every link is an http(s) address without a password."""
    for name, address in bundle.manifest.links.items():
        if not re.match(r"https?://[^\s@]+$", address):
            yield f"{MANIFEST_FILE}: links.{name}", f"{address[:80]!r} is not an https:// address"


@rule("B113", Severity.WARNING, reason="Values that are not marked are shown in lists, logs and exports.",
      fix="Write `writeOnly = true` into the property.")
def secret_settings_are_marked(bundle: Subject) -> Found:
    """Settings whose names sound like secrets are marked `writeOnly`."""
    for name, schema in (bundle.manifest.config_schema.get("properties") or {}).items():
        if _SECRET_NAME.search(name) and not (isinstance(schema, dict) and schema.get("writeOnly")):
            yield f"{MANIFEST_FILE}: config_schema.properties.{name}", "sounds like a secret and is not marked"


@rule("B114", Severity.WARNING, reason="Who configures the extension sees nothing else.",
      fix="Write `type` and `description` into the property.")
def settings_are_described(bundle: Subject) -> Found:
    """Every setting has a type and a description."""
    for name, schema in (bundle.manifest.config_schema.get("properties") or {}).items():
        known = schema if isinstance(schema, dict) else {}
        missing = [key for key in ("type", "description")
                   if key not in known and not (key == "type" and known.keys() & _TYPED)]
        if missing:
            yield f"{MANIFEST_FILE}: config_schema.properties.{name}", f"has no {' and no '.join(missing)}"


@rule("B115", Severity.NOTICE, reason="Search results and catalogs show it in one line.",
      fix="Say in one sentence what the extension does for its user.")
def summary_is_a_sentence(bundle: Subject) -> Found:
    """The summary is one sentence of at most 120 characters that ends with a full stop."""
    summary = bundle.manifest.summary
    if len(summary) > 120 or "\n" in summary or not summary.rstrip().endswith((".", "!", "?")):
        yield f"{MANIFEST_FILE}: summary", f"{summary[:60]!r} is not one short sentence"


def _is_bounded(text: str, operators: tuple[str, ...]) -> bool:
    return any(operator in operators for operator, _ in parse_range(text).comparisons)
