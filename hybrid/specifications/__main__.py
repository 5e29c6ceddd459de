"""Writes all documents: `python -m hybrid.specifications docs`."""

from __future__ import annotations

import sys
from pathlib import Path

from hybrid.specifications import asyncapi_document, openapi_document, page, schema_file, states
from hybrid.specifications.schemas import FILES


def files() -> dict[str, str]:
    """Every file by its path below the folder of documents."""
    found = {
        "http-api.md": page.describe(),
        "states.md": states.describe(),
        "openapi.json": openapi_document().formatted(),
        "asyncapi.json": asyncapi_document().formatted(),
    }
    for name in FILES:
        document = schema_file(f"{name}.json")
        assert document is not None
        found[f"schemas/{name}.json"] = document.formatted()
    found |= {f"images/states-{name}.svg": text for name, text in states.drawings().items()}
    return found


def main(folder: Path) -> None:
    """Write them below `folder`, and take away schemas that are no more."""
    texts = files()
    for part in ("schemas", "images"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for old in (folder / "schemas").glob("*.json"):
        if f"schemas/{old.name}" not in texts:
            old.unlink()
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("Say where to: python -m hybrid.specifications docs")
    main(Path(sys.argv[1]))
