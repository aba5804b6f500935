"""The application of `spent_apps`, in a middleware that cancels a request on disconnect."""

from __future__ import annotations

import anyio
import spent_apps


async def asgi(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    async with anyio.create_task_group() as tasks:

        async def watch():
            while (await receive())["type"] != "http.disconnect":
                pass
            tasks.cancel_scope.cancel()

        tasks.start_soon(watch)
        await spent_apps.asgi(scope, anyio.sleep_forever, send)
        tasks.cancel_scope.cancel()
