"""What describes hybrid to machines, made from the types that parse and write the wire and from the table of routes.

    schemas     JSON Schemas of all messages and bodies
    openapi     the routes, as OpenAPI 3.1
    asyncapi    sessions and streams, as AsyncAPI 3
    page        the routes for people: docs/http-api.md

`python -m hybrid.specifications docs` writes them all below `docs/`; the server gives out the first three. Each is made
once, when it is first asked for.
"""

from __future__ import annotations

from hybrid.specifications.asyncapi import asyncapi_document
from hybrid.specifications.openapi import openapi_document
from hybrid.specifications.schemas import schema_file

__all__ = ["asyncapi_document", "openapi_document", "schema_file"]
