"""An MLflow model behind the PyPI package kserve: the shortest custom model that its documentation shows, for measure.py.

    PORT=8080 kserve_server.py MODEL_DIR
"""

import os
import sys

import mlflow
import pandas as pd
from kserve import InferRequest, InferResponse, Model, ModelServer
from kserve.utils.utils import get_predict_input, get_predict_response


class Pyfunc(Model):
    def load(self):
        self.model = mlflow.pyfunc.load_model(sys.argv[1])
        self.ready = True
        return True

    def predict(self, payload: InferRequest, headers=None, response_headers=None) -> InferResponse:
        schema = self.model.metadata.get_input_schema()
        if schema is None or schema.is_tensor_spec():
            data = payload.inputs[0].as_numpy()
        elif any(i.datatype == "BYTES" for i in payload.inputs):
            data = pd.DataFrame({i.name: i.as_string() for i in payload.inputs})
        else:
            data = get_predict_input(payload)
            # One column per input: kserve gives them in the request's order.
            data = data if isinstance(data, pd.DataFrame) else pd.DataFrame({i.name: i.as_numpy().ravel() for i in payload.inputs})
        params = {k: v for k, v in (payload.parameters or {}).items() if k != "content_type"}
        return get_predict_response(payload, self.model.predict(data, params=params or None), self.name)


if __name__ == "__main__":
    model = Pyfunc("m")
    model.load()
    ModelServer(http_port=int(os.environ["PORT"]), enable_grpc=False, workers=1, access_log_format=None).start([model])
