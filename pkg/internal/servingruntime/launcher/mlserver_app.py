"""MLServer's REST app over one MLflow model, in this process.

`mlserver start` answers before a model is loaded, ends with 0 when loading fails, opens ports for gRPC and for metrics, and lets
whoever reaches it unload the model (/v2/repository). Of MLServer this takes what it is chosen for, its app and mlserver-mlflow's
runtime, and leaves the process to the launcher.
"""

import asyncio
import logging

from mlserver.errors import InferenceError
from mlserver.handlers import DataPlane, ModelRepositoryHandlers, get_custom_handlers
from mlserver.registry import MultiModelRegistry
from mlserver.repository import SchemalessModelRepository
from mlserver.rest.app import create_app
from mlserver.settings import ModelParameters, ModelSettings, Settings
from mlserver_mlflow import MLflowRuntime

_logger = logging.getLogger(__name__)


class Runtime(MLflowRuntime):
    async def predict(self, payload):
        # The model computes in a thread: health and other requests are answered meanwhile.
        try:
            return await asyncio.to_thread(asyncio.run, super().predict(payload))
        except Exception as e:
            # Of its own, MLServer answers 500 without a reason to whatever does not fit the model.
            _logger.exception("prediction failed")
            raise InferenceError(f"{type(e).__name__}: {e}") from e


def make(model_dir, name, version):
    """Loads the model and returns the app. version is "" where it is not known."""
    settings = Settings(debug=False, parallel_workers=0, metrics_endpoint=None, load_models_at_startup=False)
    registry = MultiModelRegistry()
    app = create_app(settings, DataPlane(settings, registry), ModelRepositoryHandlers(SchemalessModelRepository(model_dir), registry))
    app.router.routes[:] = [route for route in app.router.routes if not route.path.startswith("/v2/repository/")]
    model = asyncio.run(
        registry.load(
            ModelSettings(
                name=name,
                implementation=Runtime,
                parameters=ModelParameters(uri=model_dir, version=version or None),
            )
        )
    )
    for handler, method in get_custom_handlers(model):  # /invocations, /ping, /health, /version
        app.add_api_route(handler.rest_path, method, methods=[handler.rest_method])
    return app
