"""The development issuer over HTTP. What it grants, and to whom, is decided in `auth/development`.

`routes.py` has the endpoints for machines, `pages.py` those for people, `browser.py` what binds a form to the browser
that was shown it, `words.py` the sentences. The templates and the stylesheet lie beside them, so that the pages need
nothing that is not in this package.
"""

from hybrid.web.issuer.routes import ISSUER_PATH, issuer_blueprint, page_addresses

__all__ = ["ISSUER_PATH", "issuer_blueprint", "page_addresses"]
