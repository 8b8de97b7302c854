"""Serves the page on one port: no link to the outside, and no request of the page to it."""

import os
import socket

# Read by Gradio when it is imported: nothing is reported to anybody.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

import gradio as gr
import uvicorn
from fastapi import FastAPI
from starlette.datastructures import MutableHeaders
from starlette.middleware.trustedhost import TrustedHostMiddleware

from tools.demo.page import STYLE

MAX_UPLOAD = "32mb"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
# The browser itself refuses anything that is not this server's; Gradio's own scripts and styles
# are partly inline.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "worker-src 'self' blob:; object-src 'none'; base-uri 'self'; frame-ancestors 'none'"
)


def with_policy(app):
    """Return an ASGI application that sends `POLICY` with every answer of another."""

    async def answer(scope, receive, send) -> None:
        async def send_with_policy(message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["content-security-policy"] = POLICY
            await send(message)

        await app(scope, receive, send_with_policy)

    return answer


def build_app(blocks: gr.Blocks, host: str) -> FastAPI:
    """Return the page as an application; on a loopback address other host names are refused, so no
    web site reaches it through a name of its own."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    if host in LOOPBACK:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=[*LOOPBACK, "[::1]"])
    app.add_middleware(with_policy)
    fonts = ["ui-sans-serif", "system-ui", "sans-serif"]
    theme = gr.themes.Default(
        primary_hue="blue", font=fonts, font_mono=["ui-monospace", "monospace"]
    )
    return gr.mount_gradio_app(
        app,
        blocks,
        path="/",
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        mcp_server=False,
        enable_monitoring=False,
        max_file_size=MAX_UPLOAD,
        theme=theme,
        css_paths=[STYLE],
    )


def serve(blocks: gr.Blocks, bound: socket.socket, host: str) -> None:
    """Answer on a bound socket until interrupted."""
    config = uvicorn.Config(build_app(blocks, host), log_level="warning", access_log=False)
    uvicorn.Server(config).run(sockets=[bound])
