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


def count_forever(file: Path, every_s: float = _EVERY_S) -> None:
    """Write the counts into a file, again and again; for a thread of its own."""
    while True:
        gc.collect()
        counts = {"objects": len(gc.get_objects()), "blocks": sys.getallocatedblocks()}
        part = file.with_suffix(".part")
        part.write_text(json.dumps(counts))
        part.replace(file)
        time.sleep(every_s)


if __name__ == "__main__":
    threading.Thread(target=count_forever, args=(Path(sys.argv[1]),), daemon=True).start()
    sys.argv = ["hybrid", *sys.argv[2:]]
    sys.exit(main())
