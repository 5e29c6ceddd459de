"""What the site has beside the pages of docs/: MkDocs calls these functions (mkdocs.yml, `hooks`).

Pages stay readable in the repository, where links lead to folders and to files outside of docs/. Here such links get
pages: the files of each example, the schemas, nginx.conf. What is generated from the code (the commands' help, the
declarations of the JavaScript client) is put in where a page says `<!-- commands -->` or `<!-- declarations -->`.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import posixpath
import re
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from hybrid.cli import build_parser

ROOT = Path(__file__).resolve().parents[2]
OUTSIDE = {"nginx.conf": "nginx-conf.md"}
"""Files beside docs/ that pages link to, and the pages of the site that stand for them."""
LANGUAGES = {".py": "python", ".mjs": "js", ".html": "html", ".toml": "toml", ".yaml": "yaml", ".php": "php"}
LINK = re.compile(r"\]\(([^)#\s:]+)(#[^)\s]*)?\)")
SOURCE = re.compile(r"\[([^\]`]+)\]\(\.\./(?:tests|hybrid)/[^)]*\)")
"""A link to the sources, which the site does not have."""

DECLARATION = re.compile(
    r"^(?P<comment>/\*\*(?:(?!\*/).)*\*/\n)?(?P<code>export (?:declare )?(?:abstract )?\w+ (?P<name>\w+)"
    r"(?:[^\n]*;|.*?^\})\n)",
    re.MULTILINE | re.DOTALL,
)
SHIM = "https://unpkg.com/iframe-worker/shim"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made here, and take away what they replace."""
    made = {"nginx-conf.md": "# nginx.conf\n\n" + _code(ROOT / "nginx.conf"), "schemas/index.md": _schemas()}
    for folder in sorted((ROOT / "docs" / "examples").iterdir()):
        made[f"examples/{folder.name}/index.md"] = _example(folder)
    for file in list(files):
        if re.fullmatch(r"examples/[^/]+/README\.md", file.src_uri):
            files.remove(file)
    for uri, text in made.items():
        files.append(File.generated(config, uri, content=text))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links to folders and to files outside of docs/ at the pages made here; put in what is generated."""
    if "<!-- commands -->" in markdown:
        markdown = markdown.replace("<!-- commands -->", "\n".join(_commands()))
    if "<!-- declarations -->" in markdown:
        text = (ROOT / "static" / "hybrid" / "index.d.ts").read_text()
        markdown = markdown.replace("<!-- declarations -->", "\n".join(_declarations(text)))
    markdown = SOURCE.sub(r"`\1`", markdown)

    def lead(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page.file.src_uri), match[1]))
        found = _page_for(target)
        if found is None:
            return match[0]
        return f"]({os.path.relpath(found, posixpath.dirname(page.file.src_uri) or '.')}{match[2] or ''})"

    return LINK.sub(lead, markdown)


def on_post_build(config: MkDocsConfig) -> None:
    """Opened from the disk, the theme's script would fetch a shim of its search from another host; it gets none."""
    for script in Path(config.site_dir, "assets", "javascripts").glob("bundle.*.min.js"):
        script.write_text(script.read_text().replace(SHIM, "data:text/javascript,"))


def _page_for(target: str) -> str | None:
    """The page of the site for a path of the repository, where that is not a page itself."""
    if target in OUTSIDE:
        return OUTSIDE[target]
    if target == "docs/schemas":
        return "schemas/index.md"
    match = re.fullmatch(r"docs/(examples/[^/]+)(/README\.md|/index\.html)?", target)
    return f"{match[1]}/index.md" if match else None


def _example(folder: Path) -> str:
    """What an example's README says, and its files."""
    readme = folder / "README.md"
    text = readme.read_text() if readme.exists() else f"# {folder.name.capitalize()}\n"
    parts = [text.rstrip(), "## The files"]
    for path in sorted(folder.iterdir()):
        if path != readme and path.is_file():
            parts.append(f"### {path.name}\n\n{_code(path)}")
    return "\n\n".join(parts) + "\n"


def _code(path: Path) -> str:
    language = LANGUAGES.get(path.suffix, "nginx" if path.name == "nginx.conf" else "text")
    return f"````{language}\n{path.read_text().rstrip()}\n````\n"


def _schemas() -> str:
    """Every message and body of the wire with its fields, from the JSON Schemas in docs/schemas."""
    parts = [
        "# Wire schemas\n\nEvery message and body, from the structs that parse and write them. A server gives each out "
        "as JSON Schema 2020-12 at `/v1/schemas/NAME.json`; [the protocol](../protocol.md) has the rules of use.\n"
    ]
    for path in sorted((ROOT / "docs" / "schemas").glob("*.json")):
        schema = json.loads(path.read_text())
        parts.append(f"## {path.stem}\n\n{schema.get('description', '')} [{path.name}]({path.name})\n")
        for name, shape in schema.get("$defs", {}).items():
            parts.append("\n".join(_shape(name, shape)))
    return "\n".join(parts)


def _shape(name: str, shape: dict[str, Any]) -> Iterator[str]:
    yield f"**{name}**: {' '.join(shape.get('description', '').split()) or 'see the file'}\n"
    if shape.get("properties"):
        yield "| field | type | default |\n| --- | --- | --- |"
        for field, value in shape["properties"].items():
            is_needed = field in shape.get("required", ())
            default = "needed" if is_needed else f"`{json.dumps(value['default'])}`" if "default" in value else ""
            yield f"| `{field}` | {_type(value)} | {default} |"
    yield ""


def _type(value: dict[str, Any]) -> str:
    if "$ref" in value:
        return str(value["$ref"]).rsplit("/", 1)[-1]
    if "anyOf" in value:
        return " or ".join(_type(item) for item in value["anyOf"])
    if "enum" in value:
        return ", ".join(f"`{json.dumps(item)}`" for item in value["enum"])
    if value.get("type") == "array":
        return f"list of {_type(value.get('items', {}))}"
    return str(value.get("type", "any"))


def _declarations(text: str) -> Iterator[str]:
    """What a module of declarations exports: types that fit on a line together, everything else by itself."""
    short, long = [], []
    for match in DECLARATION.finditer(text):
        comment = re.sub(r"^[ ]*(?:/\*\*|\*/|\*)[ ]?|[ ]*\*/$", "", match["comment"] or "", flags=re.MULTILINE)
        words, code = " ".join(comment.split()), match["code"].rstrip()
        if "\n" in code:
            long.append(f"## {match['name']}\n\n{words}\n\n```ts\n{code}\n```\n")
        else:
            short.append(f"// {words}\n{code}" if words else code)
    yield "\n".join(["## Types in one line\n", "```ts", *short, "```", ""])
    yield from long


def _commands() -> Iterator[str]:
    """The help of each command, as it prints it in a window of 100 columns."""
    os.environ["COLUMNS"] = "100"
    os.environ["NO_COLOR"] = "1"
    parser = build_parser()
    [commands] = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    yield _help(parser)
    for name, command in commands.choices.items():
        yield f"## hybrid {name}\n"
        yield _help(command)


def _help(parser: argparse.ArgumentParser) -> str:
    with redirect_stdout(io.StringIO()) as out:
        parser.print_help()
    return f"```text\n{out.getvalue().rstrip()}\n```\n"
