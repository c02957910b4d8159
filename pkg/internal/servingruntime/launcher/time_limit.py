"""MLflow's limit on how long a request may take, for less: the tasks and queues of Starlette's BaseHTTPMiddleware, which MLflow's app makes
for each request, take a sixth of the processor time of a small model's answer."""

import asyncio

from mlflow.environment_variables import MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT
from starlette.middleware import Middleware
from starlette.responses import Response


def replace(app):
    """Puts TimeLimit in the place of MLflow's own, where that is what it is known to be."""
    for i, middleware in enumerate(app.user_middleware):
        dispatch = getattr(middleware, "kwargs", {}).get("dispatch")
        if getattr(dispatch, "__name__", "") == "timeout_middleware":
            app.user_middleware[i] = Middleware(TimeLimit, seconds=MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT.get())


class TimeLimit:
    """Answers 504 to a request whose answer has not begun in time."""

    def __init__(self, app, seconds):
        self.app, self.seconds = app, seconds

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        task, late = asyncio.current_task(), False

        def cancel():
            nonlocal late
            late = task.cancel()

        async def begin(message):
            timer.cancel()
            await send(message)

        timer = asyncio.get_running_loop().call_later(self.seconds, cancel)
        try:
            await self.app(scope, receive, begin)
        except asyncio.CancelledError:
            if not late:
                raise
            if hasattr(task, "uncancel"):  # Python 3.11
                task.uncancel()
            answer = Response("Request processing time exceeded limit", status_code=504, media_type="application/json")
            await answer(scope, receive, send)
        finally:
            timer.cancel()
