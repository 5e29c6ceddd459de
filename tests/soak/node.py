"""`hybrid serve`, with a thread beside it that says how many objects live: `python -m tests.soak.node FILE serve ...`.

Garbage is collected before each count, so that what is counted is what is held.
"""

from __future__ import annotations

import gc
import json
import sys
import threading
import time
from pathlib import Path
from typing import Final

from hybrid.cli import main

_EVERY_S: Final = 10.0


def _count(file: Path) -> None:
    while True:
        gc.collect()
        counts = {"objects": len(gc.get_objects()), "blocks": sys.getallocatedblocks()}
        part = file.with_suffix(".part")
        part.write_text(json.dumps(counts))
        part.replace(file)
        time.sleep(_EVERY_S)


if __name__ == "__main__":
    threading.Thread(target=_count, args=(Path(sys.argv[1]),), daemon=True).start()
    sys.argv = ["hybrid", *sys.argv[2:]]
    sys.exit(main())
