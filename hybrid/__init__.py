"""Channels over WebSocket, Server-Sent Events and long polling."""
