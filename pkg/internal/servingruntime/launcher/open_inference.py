"""The Open Inference Protocol (V2) over an MLflow pyfunc model: routes, and tensors to and from what predict takes and gives.

https://github.com/kserve/open-inference-protocol
"""

import asyncio
import base64
import inspect
import json
import logging
import math

import numpy as np
import pandas as pd
from fastapi import Request
from fastapi.exception_handlers import http_exception_handler
from fastapi.responses import JSONResponse
from mlflow.exceptions import MlflowException
from mlflow.types import DataType
from mlflow.version import VERSION
from starlette.exceptions import HTTPException

_logger = logging.getLogger(__name__)

NUMPY_TYPES = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
    "BYTES": np.object_,
}
DATATYPES = {np.dtype(t): name for name, t in NUMPY_TYPES.items()}
COLUMN_DATATYPES = {
    DataType.boolean: "BOOL",
    DataType.integer: "INT32",
    DataType.long: "INT64",
    DataType.float: "FP32",
    DataType.double: "FP64",
}
# Request parameters that speak about the request itself; the others are the model's.
PROTOCOL_PARAMETERS = {"content_type", "headers", "binary_data_output"}
# Bytes of a request's body, as much as NVIDIA's Triton takes: as tensors it needs a multiple of that in memory.
LARGEST_BODY = 64 << 20


class BadRequest(ValueError):
    """The request cannot be understood; its text is for the client."""

    def __init__(self, message, status=400):
        super().__init__(message)
        self.status = status


def add_routes(app, model, name, version):
    """Adds the V2 routes for one model to a FastAPI app. version is "" where it is not known."""
    schemas = model.metadata.get_input_schema(), model.metadata.get_output_schema()
    takes_params = "params" in inspect.signature(model.predict).parameters
    identity = {"name": name, **({"versions": [version]} if version else {})}

    def error(message, status=400):
        return JSONResponse({"error": message}, status_code=status)

    def unknown(asked_name, asked_version):
        if asked_name != name:
            return error(f"there is no model {asked_name!r} here, only {name!r}", 404)
        if asked_version is not None and asked_version != version:
            return error(f"there is no version {asked_version!r} of {name!r} here", 404)
        return None

    def answer(body):
        """Computes in a thread of its own: reading and writing large tensors takes its time, too."""
        try:
            request = parse_body(body)
            data, params = parse_request(request, schemas[0])
            result = model.predict(data, params=params) if params and takes_params else model.predict(data)
            return JSONResponse(
                {
                    "model_name": name,
                    **({"model_version": version} if version else {}),
                    **({"id": request["id"]} if request.get("id") else {}),
                    "outputs": encode_outputs(result, request.get("outputs")),
                }
            )
        except BadRequest as e:
            return error(str(e), e.status)
        except MlflowException as e:
            return error(e.message)
        except (Exception, SystemExit) as e:
            _logger.exception("prediction failed")
            return error(f"the model failed: {type(e).__name__}: {e}")

    async def server():
        return {"name": "mlflow", "version": VERSION, "extensions": []}

    async def live():
        return {"live": True}

    async def ready():
        return {"ready": True}

    async def metadata(model_name: str, model_version: str = None):
        return unknown(model_name, model_version) or {
            **identity,
            "platform": "mlflow_pyfunc",
            "inputs": describe(schemas[0], "input"),
            "outputs": describe(schemas[1], "output"),
        }

    async def model_ready(model_name: str, model_version: str = None):
        return unknown(model_name, model_version) or {"name": name, "ready": True}

    async def infer(request: Request, model_name: str, model_version: str = None):
        if refusal := unknown(model_name, model_version):
            return refusal
        try:
            body = await read_body(request)
        except BadRequest as e:
            return error(str(e), e.status)
        return await asyncio.to_thread(answer, body)

    async def failed(request: Request, e: HTTPException):
        """Whatever has no route here, /v2/repository too: as the protocol words errors, where the path is one of its own."""
        if request.url.path.startswith("/v2"):
            return error(f"{request.method} {request.url.path}: {e.detail}", e.status_code)
        return await http_exception_handler(request, e)

    app.add_exception_handler(HTTPException, failed)
    app.add_api_route("/v2", server, methods=["GET"])
    app.add_api_route("/v2/health/live", live, methods=["GET"])
    app.add_api_route("/v2/health/ready", ready, methods=["GET"])
    for path in ("/v2/models/{model_name}", "/v2/models/{model_name}/versions/{model_version}"):
        # The handlers answer with responses or with JSON: response_model=None keeps FastAPI from guessing a type.
        app.add_api_route(path, metadata, methods=["GET"], response_model=None)
        app.add_api_route(path + "/ready", model_ready, methods=["GET"], response_model=None)
        app.add_api_route(path + "/infer", infer, methods=["POST"], response_model=None)


def describe(schema, unnamed):
    """A schema as V2 metadata: name, datatype, shape. A column is a tensor of n rows; -1 is any size."""
    if schema is None:
        return []
    if schema.is_tensor_spec():
        return [
            {
                "name": spec.name or f"{unnamed}-{i}",
                "datatype": DATATYPES.get(spec.type, "BYTES"),
                "shape": [int(n) for n in spec.shape],
            }
            for i, spec in enumerate(schema.inputs, 1)
        ]
    return [
        {
            "name": str(spec.name if spec.name is not None else f"{unnamed}-{i}"),
            "datatype": COLUMN_DATATYPES.get(spec.type, "BYTES"),
            "shape": [-1, 1],
        }
        for i, spec in enumerate(schema.inputs, 1)
    ]


async def read_body(request):
    if "inference-header-content-length" in request.headers:
        raise BadRequest("the binary tensor extension is not supported: send tensors as JSON (binary_data=False)")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_BODY:
            raise BadRequest(f"the body is larger than {LARGEST_BODY >> 20} MiB: send fewer rows at a time", 413)
    return body


def parse_body(body):
    try:
        request = json.loads(body)
    except (ValueError, RecursionError) as e:
        raise BadRequest(f"the body is not JSON: {e}") from e
    if not isinstance(request, dict) or not isinstance(request.get("inputs"), list) or not request["inputs"]:
        raise BadRequest('the body must be an object with a list "inputs" of at least one tensor')
    if not isinstance(request.get("parameters") or {}, dict):
        raise BadRequest('"parameters" must be an object')
    if not isinstance(request.get("id") or "", str):
        raise BadRequest('"id" must be a string')
    wanted = request.get("outputs") or []
    if not isinstance(wanted, list) or not all(isinstance(w, dict) and isinstance(w.get("name"), str) for w in wanted):
        raise BadRequest('"outputs" must be a list of objects with a "name"')
    return request


def parse_request(request, schema):
    """The request's tensors as what the model's signature asks for, and the model's own parameters."""
    parameters = request.get("parameters") or {}
    tensors = {}
    for tensor in request["inputs"]:
        name, array = decode_tensor(tensor)
        if name in tensors:
            raise BadRequest(f"there are two inputs named {name!r}")
        tensors[name] = (array, content_type(tensor))
    params = {k: v for k, v in parameters.items() if k not in PROTOCOL_PARAMETERS}
    if schema is not None and schema.is_tensor_spec():
        return to_tensors(tensors, schema), params
    if schema is not None:
        return to_frame(tensors, schema), params
    return without_schema(tensors, parameters.get("content_type")), params


def content_type(tensor):
    parameters = tensor.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise BadRequest(f"input {tensor['name']!r}: parameters must be an object")
    return parameters.get("content_type")


def decode_tensor(tensor):
    """One V2 tensor as its name and a numpy array of its shape and datatype."""
    if not isinstance(tensor, dict):
        raise BadRequest("an input must be an object")
    name, datatype, shape = tensor.get("name"), tensor.get("datatype"), tensor.get("shape")
    if not isinstance(name, str) or not name:
        raise BadRequest("an input has no name")
    if not isinstance(datatype, str) or datatype not in NUMPY_TYPES:
        raise BadRequest(f"input {name!r}: datatype {datatype!r} is none of {', '.join(NUMPY_TYPES)}")
    if not isinstance(shape, list) or not all(type(n) is int and n >= 0 for n in shape):
        raise BadRequest(f"input {name!r}: shape must be a list of sizes")
    if not isinstance(tensor.get("data"), list):
        raise BadRequest(f'input {name!r}: there is no list "data"')
    try:
        flat = flatten(tensor["data"])
    except RecursionError as e:
        raise BadRequest(f"input {name!r}: data is nested too deeply") from e
    if len(flat) != math.prod(shape):
        raise BadRequest(f"input {name!r}: data has {len(flat)} elements, shape {shape} holds {math.prod(shape)}")
    try:
        return name, to_numpy(flat, datatype).reshape(shape)
    except (TypeError, ValueError, OverflowError) as e:
        raise BadRequest(f"input {name!r}: data does not fit datatype {datatype}: {e}") from e


def flatten(data):
    if list not in set(map(type, data)):
        return data
    return [leaf for value in data for leaf in (flatten(value) if isinstance(value, list) else (value,))]


def to_numpy(flat, datatype):
    """JSON's values as an array of a datatype. null is a missing number or text. No loop of Python's own: there may be many."""
    dtype = np.dtype(NUMPY_TYPES[datatype])
    if datatype == "BYTES":
        demand(flat, {str, type(None)}, "a string")
        array = np.empty(len(flat), dtype=object)
        array[:] = flat
        return array
    if datatype == "BOOL":
        demand(flat, {bool}, "a boolean")
        return np.array(flat, dtype=dtype)
    if dtype.kind == "f":
        demand(flat, {int, float, type(None)}, "a number")
        return np.array(flat, dtype=float).astype(dtype)  # None becomes NaN
    demand(flat, {int, float}, "a whole number")
    if float in set(map(type, flat)):
        flat = [whole(v) for v in flat]
    bounds = np.iinfo(dtype)
    for v in (min(flat, default=0), max(flat, default=0)):
        if not bounds.min <= v <= bounds.max:
            raise ValueError(f"{v} is not between {bounds.min} and {bounds.max}")
    return np.array(flat, dtype=dtype)


def demand(values, types, what):
    if not set(map(type, values)) <= types:
        raise ValueError(f"{next(v for v in values if type(v) not in types)!r} is not {what}")


def whole(value):
    if int(value) != value:
        raise ValueError(f"{value!r} is not a whole number")
    return int(value)


def to_tensors(tensors, schema):
    if not schema.has_input_names():
        if len(tensors) != 1:
            raise BadRequest(f"the model takes one tensor, the request has {len(tensors)}")
        ((array, kind),) = tensors.values()
        return as_type(array, kind, schema.inputs[0].type, "the tensor")
    out = {}
    for spec in schema.inputs:
        if spec.name not in tensors:
            if getattr(spec, "required", True):
                raise BadRequest(f"input {spec.name!r} is missing; the model takes {schema.input_names()}")
            continue
        array, kind = tensors[spec.name]
        out[spec.name] = as_type(array, kind, spec.type, spec.name)
    return out


def as_type(array, kind, dtype, name):
    """The array in the type that the signature names, where no value changes by it."""
    if array.dtype == object:
        return strings(array, kind)
    if array.dtype == dtype or dtype is None or dtype.kind not in "biuf":
        return array
    cast = array.astype(dtype)
    if dtype.kind in "biu" and not np.array_equal(cast, array):
        raise BadRequest(f"input {name!r}: {array.dtype} values do not fit {dtype}, which the model's signature asks for")
    return cast


def strings(array, kind):
    if kind != "base64":
        return array
    return decode_each(array, base64.b64decode)


def decode_each(array, decode):
    out = np.empty(array.size, dtype=object)
    for i, value in enumerate(array.reshape(-1)):
        try:
            out[i] = None if value is None else decode(value)
        except ValueError as e:
            raise BadRequest(f"{value!r}: {e}") from e
    return out.reshape(array.shape)


def to_frame(tensors, schema):
    """One column per input, or one matrix with a column for each of the schema's."""
    names = schema.input_names() if schema.has_input_names() else list(range(len(schema.inputs)))
    specs = dict(zip(names, schema.inputs))
    if len(tensors) == 1:
        ((name, (array, kind)),) = tensors.items()
        if name not in specs and array.ndim == 2 and array.shape[1] == len(names):
            return pd.DataFrame({n: to_column(array[:, i], kind, specs[n], n) for i, n in enumerate(names)})
    columns = {}
    for name, (array, kind) in tensors.items():
        columns[name] = to_column(one_per_row(array, name), kind, specs.get(name), name)
    lengths = {len(c) for c in columns.values()}
    if len(lengths) > 1:
        raise BadRequest(f"the inputs have different numbers of rows: {sorted(lengths)}")
    for name in names:
        if name not in columns and getattr(specs[name], "required", True):
            raise BadRequest(f"input {name!r} is missing; the model takes {names}")
    # In the signature's order; columns that it does not know come last, and are MLflow's to judge.
    ordered = [n for n in names if n in columns] + [n for n in columns if n not in specs]
    return pd.DataFrame({n: columns[n] for n in ordered})


def one_per_row(array, name):
    if array.ndim == 1:
        return array
    if array.ndim == 2 and array.shape[1] == 1:
        return array[:, 0]
    raise BadRequest(f"input {name!r}: a column has shape [n] or [n, 1], not {list(array.shape)}")


def to_column(array, kind, spec, name):
    wanted = getattr(spec, "type", None)
    if array.dtype == object:
        if kind == "base64" or wanted == DataType.binary:
            return decode_each(array, base64.b64decode)
        if kind == "datetime" or wanted == DataType.datetime:
            return pd.to_datetime(decode_each(array, moment))
        if kind == "pd_json" or (wanted is not None and not isinstance(wanted, DataType)):
            return decode_each(array, json.loads)
        return array
    if isinstance(wanted, DataType) and wanted in COLUMN_DATATYPES:
        return as_type(array, kind, np.dtype(wanted.to_numpy()), name)
    return array


def moment(value):
    """A time in ISO 8601, in UTC where it says no zone; MLflow's datetimes have none."""
    time = pd.Timestamp(value)
    return time.tz_convert("UTC").tz_localize(None) if time.tzinfo else time


def without_schema(tensors, kind):
    """A model without a signature gets a matrix where there is one, columns else, unless the request says which."""
    if kind not in (None, "np", "pd"):
        raise BadRequest(f"content_type {kind!r} is neither np nor pd")
    single = len(tensors) == 1
    ((array, inner),) = [next(iter(tensors.values()))]
    if kind == "np" or (kind is None and single and array.ndim >= 2 and array.shape[1:] != (1,)):
        if not single:
            return {name: strings(a, k) for name, (a, k) in tensors.items()}
        return strings(array, inner)
    return pd.DataFrame({name: to_column(one_per_row(a, name), k, None, name) for name, (a, k) in tensors.items()})


def encode_outputs(result, wanted):
    """What predict returned as V2 tensors; wanted is the request's list of outputs, or None."""
    outputs = [encode_tensor(name, array) for name, array in split_result(result)]
    if not wanted:
        return outputs
    by_name = {o["name"]: o for o in outputs}
    try:
        return [by_name[w["name"]] for w in wanted]
    except KeyError as e:
        raise BadRequest(f"the model has no output {e}, only {sorted(by_name)}") from e


def split_result(result):
    if isinstance(result, pd.DataFrame):
        return [(str(name), result[name].to_numpy().reshape(-1, 1)) for name in result.columns]
    if isinstance(result, pd.Series):
        return [(str(result.name) if result.name is not None else "output-1", result.to_numpy().reshape(-1, 1))]
    if isinstance(result, dict):
        return [(str(name), to_array(value)) for name, value in result.items()]
    if isinstance(result, (list, tuple)) and result and all(isinstance(r, dict) for r in result):
        return [("output-1", objects(result))]
    return [("output-1", to_array(result))]


def to_array(value):
    if hasattr(value, "toarray"):  # scipy's sparse matrices
        value = value.toarray()
    if isinstance(value, (pd.Series, pd.Index)):
        value = value.to_numpy()
    try:
        array = np.asarray(value)
    except ValueError:  # rows of different lengths
        return objects(value)
    return array.reshape(1) if array.ndim == 0 else array


def objects(values):
    array = np.empty(len(values), dtype=object)
    for i, value in enumerate(values):
        array[i] = value
    return array


def encode_tensor(name, array):
    tensor = {"name": name, "shape": list(array.shape)}
    if array.dtype in DATATYPES and array.dtype != object:
        data = array.reshape(-1).tolist()
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            # JSON has no NaN and no infinity.
            data = [v if math.isfinite(v) else None for v in data]
        return {**tensor, "datatype": DATATYPES[array.dtype], "data": data}
    flat = array.reshape(-1)
    if array.dtype == object and flat.size and all(isinstance(v, (bool, np.bool_)) for v in flat):
        return encode_tensor(name, array.astype(bool))
    if array.dtype == object and flat.size and all(isinstance(v, (int, float, np.number)) for v in flat):
        return encode_tensor(name, np.asarray(flat.tolist()).reshape(array.shape))
    # As a list, times that numpy counts in nanoseconds would be numbers; pandas makes times of them.
    values = list(pd.Index(flat)) if array.dtype.kind in "mM" else flat.tolist()
    kind = "datetime" if array.dtype.kind == "M" else "base64" if any(isinstance(v, bytes) for v in values) else "str"
    return {**tensor, "datatype": "BYTES", "data": [text(v) for v in values], "parameters": {"content_type": kind}}


def text(value):
    if isinstance(value, str):
        return value
    if value is None or value is pd.NaT or value is pd.NA or isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return json.dumps(value, default=lambda v: v.tolist() if hasattr(v, "tolist") else str(v))
