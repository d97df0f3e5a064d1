"""The specification's OpenAPI files: operations, and the schemas of their replies.

They are where MATRIX_SPEC says, or beside the checkout; without them nothing here works
and tests that need it are skipped.
"""

import json
import os
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

ROOT = Path(os.environ.get("MATRIX_SPEC") or Path(__file__).parents[3] / "shared/spec")
APIS = ("client-server", "server-server")
PARAMETER = re.compile(r"\{[^}]*\}")
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def is_there() -> bool:
    """Whether the specification is at hand."""
    return (ROOT / "api/client-server/sync.yaml").is_file()


@dataclass(frozen=True)
class Operation:
    """One method of one path."""

    api: str
    method: str
    path: str
    operation_id: str
    # Alternatives; an empty one says that nobody needs to say who they are.
    security: tuple[str, ...]
    since: str | None
    file: Path
    responses: dict[str, Any] = field(hash=False)
    parameters: list[dict[str, Any]] = field(hash=False)
    request: dict[str, Any] = field(hash=False)

    def body_schema(self) -> dict[str, Any] | None:
        """The schema of the JSON body that it takes."""
        content = self.request.get("content", {}).get("application/json", {})
        schema: dict[str, Any] | None = content.get("schema")
        return schema

    @property
    def name(self) -> str:
        """The operationId in snake_case."""
        return re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", self.operation_id).lower()


@cache
def _document(file: Path) -> Any:
    return yaml.load(file.read_text("utf-8"), _Loader)


def _retrieve(uri: str) -> Resource[Any]:
    content = _document(Path(uri.removeprefix("file://")))
    return Resource.from_contents(content, default_specification=DRAFT202012)


_registry: Registry[Any] = Registry(retrieve=_retrieve)  # type: ignore[call-arg]


def _base_path(document: Any) -> str:
    path = document["servers"][0]["variables"]["basePath"]["default"]
    return str(path).rstrip("/")


def resolve(reference: str, base: str) -> tuple[dict[str, Any], str]:
    """What a `$ref` in a file stands for, and the file that this is in."""
    name, _, pointer = reference.partition("#")
    file = (Path(base).parent / name).resolve() if name else Path(base)
    found = _document(file)
    for part in pointer.strip("/").split("/") if pointer else ():
        found = found[part]
    return found, str(file)


def encode(value: Any) -> bytes:
    """JSON, with whatever integers it holds."""
    return json.dumps(value).encode()


@cache
def operations() -> tuple[Operation, ...]:
    """Every operation of the client-server and the server-server API."""
    found = []
    for api in APIS:
        for file in sorted((ROOT / "api" / api).glob("*.yaml")):
            document = _document(file)
            if not isinstance(document, dict) or "paths" not in document:
                continue
            for path, methods in document["paths"].items():
                for method, body in methods.items():
                    if not isinstance(body, dict) or "operationId" not in body:
                        continue
                    found.append(
                        Operation(
                            api=api,
                            method=method.upper(),
                            # A space sets two operations of one path apart.
                            path=_base_path(document) + path.rstrip(),
                            operation_id=body["operationId"],
                            security=tuple(
                                next(iter(each), "")
                                for each in body.get("security", [{}])
                            ),
                            since=body.get("x-addedInMatrixVersion"),
                            file=file,
                            responses=body["responses"],
                            parameters=[
                                each
                                for each in body.get("parameters", [])
                                if "name" in each
                            ],
                            request=body.get("requestBody", {}),
                        )
                    )
    return tuple(found)


@cache
def _patterns() -> tuple[tuple[str, "re.Pattern[str]", Operation], ...]:
    # Paths with more literal parts go first: /query/directory before /query/{type}.
    ordered = sorted(operations(), key=lambda o: len(PARAMETER.findall(o.path)))
    return tuple(
        (
            operation.method,
            re.compile("[^/]*".join(map(re.escape, PARAMETER.split(operation.path)))),
            operation,
        )
        for operation in ordered
    )


_LACKS_STATE_KEY = re.compile(r"/_matrix/client/v3/rooms/[^/]+/state/[^/]+")


def find(method: str, raw_path: str) -> list[Operation]:
    """The operations that a request may be for; r0 is taken for v3.

    Two operations of one path differ in what they are sent.
    """
    path = raw_path.replace("/_matrix/client/r0/", "/_matrix/client/v3/", 1)
    # "When an empty string, the trailing slash on this endpoint is optional."
    path += "/" if _LACKS_STATE_KEY.fullmatch(path) else ""
    found: list[Operation] = []
    for candidate, pattern, operation in _patterns():
        if found and operation.path != found[0].path:
            continue
        if candidate == method and pattern.fullmatch(path):
            found.append(operation)
    return found


# Answers of every HTTP server that has files.
_OF_FILES = {"206": "200", "304": "200", "416": "200"}


def has_other_content(operation: Operation, status: int) -> bool:
    """Whether the reply is something else than JSON, as a file is."""
    response = operation.responses.get(_OF_FILES.get(str(status), str(status)), {})
    content = response.get("content", {})
    return bool(content) and "application/json" not in content


def _schema(operation: Operation, status: int) -> dict[str, Any] | None:
    response = operation.responses.get(str(status))
    if response is None:
        return None
    content = response.get("content", {}).get("application/json")
    if content is None:
        return None
    schema: dict[str, Any] = content["schema"]
    if "oneOf" in schema:
        # Of a state event or its content, say the pages; an event is an object as well.
        schema = {**schema, "anyOf": schema["oneOf"]}
        del schema["oneOf"]
    return schema


ERROR = {
    "type": "object",
    "required": ["errcode", "error"],
    "properties": {
        "errcode": {"type": "string", "pattern": r"^([a-z0-9.]+\.)?M_[A-Z_]+$"},
        "error": {"type": "string", "minLength": 1},
    },
}
UIA = {
    "type": "object",
    "required": ["flows", "session"],
    "properties": {
        "flows": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["stages"],
                "properties": {
                    "stages": {"type": "array", "items": {"type": "string"}}
                },
            },
        },
        "params": {"type": "object"},
        "session": {"type": "string"},
        "completed": {"type": "array", "items": {"type": "string"}},
    },
}


def complaints(
    operation: Operation, status: int, content_type: str, body: Any
) -> list[str]:
    """What a reply has that the specification does not allow."""
    found: list[str] = []
    if content_type.partition(";")[0] != "application/json":
        found.append(f"content type {content_type!r}")
    if status >= 400:
        is_uia = status == 401 and isinstance(body, dict) and "flows" in body
        found += _violations(UIA if is_uia else ERROR, operation, body)
    elif str(status) not in operation.responses:
        found.append(f"status {status}, not one of {sorted(operation.responses)}")
    schema = _schema(operation, status)
    if schema is not None:
        found += _violations(schema, operation, body)
    return found


def _violations(schema: dict[str, Any], operation: Operation, body: Any) -> list[str]:
    based = {
        "$id": f"file://{operation.file}",
        # References into the page itself must find the page, not this schema.
        "components": _document(operation.file).get("components", {}),
        "allOf": [schema],
    }
    validator = Draft202012Validator(based, registry=_registry)
    errors = list(validator.iter_errors(body))
    if not errors:
        return []
    best = best_match(errors)
    where = "/".join(map(str, best.absolute_path)) or "the reply"
    return [f"{where}: {best.message[:300]}"]


@cache
def _of_gateways() -> Draft202012Validator:
    document = _document(ROOT / "api/push-gateway/push_notifier.yaml")
    content = document["paths"]["/notify"]["post"]["requestBody"]["content"]
    return Draft202012Validator(content["application/json"]["schema"])


def check_notification(body: Any) -> None:
    """Hold what a push gateway is told to the specification, where that is at hand."""
    if not is_there():
        return
    error = best_match(_of_gateways().iter_errors(body))
    assert error is None, f"{error.json_path}: {error.message}"
