"""What this server counts, as Prometheus and OpenMetrics take it, at `/metrics`.

`families` is the form that workers tell each other, `collect` fills it from the engine, `readers` says who may read it,
`siblings` asks the other workers, `routes` serves it. docs/operating.md explains every metric.
"""

from typing import Final

EXTENSION: Final = "hybrid.metrics"
"""Where an app's `routes.Metrics` stand in `app.extensions`, where they are on."""
