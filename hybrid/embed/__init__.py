"""hybrid inside of an application: `Hybrid` for Quart, `HybridMiddleware` for any other ASGI application."""
