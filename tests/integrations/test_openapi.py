"""OpenAPI documents in which the captcha is described."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from copy import deepcopy
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Annotated, Literal
from warnings import catch_warnings

import pytest
from fastapi import FastAPI, Form, Header
from fastapi.testclient import TestClient
from openapi_spec_validator import validate
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.routing import Mount

from tcaptcha_middleware import (
    ConfigurationError,
    Guard,
    MemoryReplayStore,
    PlainResponse,
    Reason,
    Rule,
    TCaptchaMiddleware,
    TencentVerifier,
    sources,
)
from tcaptcha_middleware.integrations.fastapi import Solved, protect  # noqa: TC001  FastAPI reads it
from tcaptcha_middleware.integrations.openapi import describe, install
from tcaptcha_middleware.tencent.actions import MINI_PROGRAM
from tcaptcha_middleware.testing import FakeVerifier

PROBLEM = "application/problem+json"
STATUSES = ["400", "403", "413", "500", "503"]
OK = {"200": {"description": "Fine."}}


def guard_of(*rules, verifier=None, **settings):
    return Guard(rules or ["POST /login"], verifier or FakeVerifier(), **settings)


def document(path="/login", method="post", **operation):
    return {
        "openapi": "3.0.3",
        "info": {"title": "Shop", "version": "1"},
        "paths": {path: {method: {"responses": deepcopy(OK)} | operation}},
    }


def operation_of(schema, guard=None, path="/login", method="post", root_path=""):
    """Describe a document, check that it is still valid, and return one operation."""
    described = describe(schema, guard or guard_of(), root_path)
    validate(described)
    return described["paths"][path][method]


def headers_of(operation):
    return {p["name"]: p["required"] for p in operation.get("parameters", ()) if "name" in p}


def is_described(*arguments, **keywords):
    return "x-tcaptcha" in operation_of(*arguments, **keywords)


def test_an_operation_that_a_rule_judges_is_described():
    schema = document()
    before = json.dumps(schema)
    described = describe(schema, guard_of())
    validate(described)
    operation = described["paths"]["/login"]["post"]
    assert headers_of(operation) == {"X-Captcha-Ticket": False, "X-Captcha-Randstr": False}
    assert [*operation["responses"]] == ["200", *STATUSES]
    assert operation["x-tcaptcha"] == {
        "rule": "POST /login",
        "mode": "enforce",
        "appId": "190000000",
    }
    assert [*operation["responses"]["403"]["headers"]] == ["Tcaptcha-Code"]
    assert [*operation["responses"]["503"]["headers"]] == ["Tcaptcha-Code", "Retry-After"]
    assert json.dumps(schema) == before


def test_the_codes_of_each_status_are_those_of_the_package():
    described = describe(document(), guard_of())
    responses = described["paths"]["/login"]["post"]["responses"]
    codes = {}
    for status in STATUSES:
        reference = responses[status]["content"][PROBLEM]["schema"]["$ref"]
        schema = described["components"]["schemas"][reference.rpartition("/")[2]]
        assert schema["properties"]["status"]["enum"] == [int(status)]
        codes |= dict.fromkeys(schema["properties"]["code"]["enum"], int(status))
    assert codes == {reason.value: reason.status for reason in Reason}


def test_an_answer_of_the_gate_has_the_form_that_is_described():
    guard = guard_of()
    app = FastAPI()
    app.post("/login")(lambda: "")
    app.add_middleware(TCaptchaMiddleware, guard=guard)
    answer = TestClient(app).post("/login").json()
    properties = describe(document(), guard)["components"]["schemas"]["TCaptcha403"]
    assert sorted(properties["required"]) == sorted(answer)
    assert answer["code"] in properties["properties"]["code"]["enum"]


@pytest.mark.parametrize(
    "schema",
    [
        document("/other"),
        document("/login", "get"),
        {"openapi": "3.1.0", "info": {"title": "x", "version": "1"}, "components": {}},
        document() | {"paths": {"x-note": {"post": {}}, "/other": {"summary": "no operation"}}},
        document() | {"paths": {"/a": {"$ref": "elsewhere.yaml#/a"}, "/b": {"$ref": "#/no"}}},
    ],
)
def test_a_document_without_protected_operations_is_returned_as_it_is(schema):
    described = describe(schema, guard_of())
    assert json.dumps(described) == json.dumps(schema)
    assert described is not schema


def test_an_operation_beside_a_protected_one_stays_as_it_is():
    schema = document()
    schema["paths"]["/login"] |= {"get": {"responses": OK}, "summary": "Log in."}
    schema["paths"]["/free"] = {"post": {"responses": OK}}
    paths = describe(schema, guard_of())["paths"]
    assert [*paths] == ["/login", "/free"]
    assert paths["/login"]["get"] == {"responses": OK}
    assert paths["/login"]["summary"] == "Log in."
    assert paths["/free"] == {"post": {"responses": OK}}


def test_a_document_that_is_described_twice_is_the_same():
    once = describe(document(), guard_of())
    assert json.dumps(describe(once, guard_of())) == json.dumps(once)


# -- Header parameters ------

OWN = sources.Header("X-Ticket", "X-Randstr")


@pytest.mark.parametrize(
    ("settings", "method", "headers"),
    [
        ({}, "post", {"X-Captcha-Ticket": False, "X-Captcha-Randstr": False}),
        # A body and the cookies of the page count only for some methods.
        ({}, "get", {"X-Captcha-Ticket": True, "X-Captcha-Randstr": True}),
        ({"page": "/tcaptcha"}, "get", {"X-Captcha-Ticket": False, "X-Captcha-Randstr": False}),
        ({"sources": [OWN]}, "post", {"X-Ticket": True, "X-Randstr": True}),
        (
            {"sources": [OWN], "page": "/tcaptcha"},
            "post",
            {"X-Ticket": True, "X-Randstr": True},
        ),
        ({"sources": [OWN, sources.Query()]}, "post", {"X-Ticket": False, "X-Randstr": False}),
        ({"sources": [OWN, sources.Header()]}, "get", {"X-Ticket": False, "X-Randstr": False}),
        ({"sources": sources.Form()}, "post", {}),
        # Not every request needs the pair.
        (
            {"sources": [OWN], "mode": "observe"},
            "post",
            {"X-Ticket": False, "X-Randstr": False},
        ),
        (
            {"sources": [OWN], "when": lambda _: True},
            "post",
            {"X-Ticket": False, "X-Randstr": False},
        ),
    ],
)
def test_the_headers_are_those_of_the_first_header_source(settings, method, headers):
    guard = guard_of("/login", **settings)
    assert headers_of(operation_of(document(method=method), guard, method=method)) == headers


def test_a_ticket_without_a_randstr_needs_one_header():
    guard = guard_of(
        verifier=FakeVerifier(action=MINI_PROGRAM),
        sources=[OWN],
        replay_store=MemoryReplayStore(single_process=True),
    )
    operation = operation_of(document(), guard)
    assert headers_of(operation) == {"X-Ticket": True}
    assert "appId" not in operation["x-tcaptcha"]


def test_a_header_that_is_described_already_stays():
    ticket = {"name": "x-captcha-ticket", "in": "header", "schema": {"type": "string"}}
    randstr = {"name": "X-Captcha-Randstr", "in": "header", "schema": {"type": "string"}}
    query = {"name": "q", "in": "query", "schema": {"type": "string"}}
    shared = {"$ref": "#/components/parameters/randstr"}
    schema = document(parameters=[query, ticket])
    schema["components"] = {"parameters": {"randstr": randstr}}
    schema["paths"]["/login"]["parameters"] = [shared]
    assert operation_of(schema)["parameters"] == [query, ticket]


# -- Responses ------


def test_a_response_of_the_operation_gets_another_media_type():
    content = {"application/json": {"schema": {"type": "object"}}}
    known = {"description": "Not an administrator.", "content": content}
    response = operation_of(document(responses=OK | {"403": known}))["responses"]["403"]
    assert response["description"].startswith("Not an administrator.\n\n")
    assert [*response["content"]] == ["application/json", PROBLEM]
    assert response["content"]["application/json"] == content["application/json"]


@pytest.mark.parametrize("others", [[], [{"type": "string"}]])
def test_a_problem_document_of_the_operation_is_one_of_two(others):
    own = {"anyOf": others} if others else {"type": "object"}
    known = {"description": "No.", "content": {PROBLEM: {"schema": own}}}
    schema = describe(document(responses={"403": known}), guard_of())
    again = operation_of(schema)
    media_type = again["responses"]["403"]["content"][PROBLEM]
    problem = {"$ref": "#/components/schemas/TCaptcha403"}
    assert media_type["schema"] == {"anyOf": [own, problem]}


@pytest.mark.parametrize("key", ["4XX", "default"])
def test_what_a_range_or_the_default_says_is_kept(key):
    shared = {"$ref": "#/components/responses/error"}
    error = {"description": "An error.", "content": {"text/plain": {"schema": {}}}}
    schema = document(responses=OK | {key: shared})
    schema["components"] = {"responses": {"error": error}}
    responses = operation_of(schema)["responses"]
    assert responses[key] == shared
    assert [*responses["403"]["content"]] == ["text/plain", PROBLEM]
    assert schema["components"] == {"responses": {"error": error}}


def test_a_response_in_another_document_stays():
    elsewhere = {"$ref": "errors.yaml#/forbidden"}
    schema = document(responses=OK | {"403": elsewhere})
    responses = describe(schema, guard_of())["paths"]["/login"]["post"]["responses"]
    assert responses["403"] == elsewhere
    assert "400" in responses


def test_a_status_may_be_a_number_as_in_yaml():
    schema = document(responses={403: {"description": "No."}})
    responses = describe(schema, guard_of())["paths"]["/login"]["post"]["responses"]
    assert responses[403]["description"].startswith("No.")
    assert "403" not in responses


def test_an_operation_without_responses_gets_those_of_the_gate():
    schema = document() | {"openapi": "3.1.0"}
    del schema["paths"]["/login"]["post"]["responses"]
    assert [*operation_of(schema)["responses"]] == STATUSES


@pytest.mark.parametrize(
    "settings", [{"mode": "observe"}, {"responder": lambda *_: PlainResponse(418)}]
)
def test_a_rule_that_never_sends_problem_documents_adds_no_responses(settings):
    described = describe(document(), guard_of(**settings))
    operation = described["paths"]["/login"]["post"]
    assert operation["responses"] == OK
    assert "components" not in described
    assert operation["x-tcaptcha"]["mode"] == settings.get("mode", "enforce")


def test_a_component_of_the_same_name_stays():
    own = {"type": "string"}
    schema = document() | {"components": {"schemas": {"TCaptcha403": own, "TCaptcha403_": own}}}
    described = describe(schema, guard_of())
    validate(described)
    schemas = described["components"]["schemas"]
    assert schemas["TCaptcha403"] == schemas["TCaptcha403_"] == own
    assert schemas["TCaptcha403__"]["properties"]["status"] == {
        "type": "integer",
        "enum": [403],
    }
    assert describe(described, guard_of()) == described


# -- Which operations ------


def with_values(path="/users/{id}", **schema):
    parameter = {"name": "id", "in": "path", "required": True, "schema": schema}
    return document(path, parameters=[parameter])


@pytest.mark.parametrize(
    ("rule", "schema", "required"),
    [
        ("POST /users/{id}", with_values(type="integer"), True),
        ("POST /users/**", with_values(type="string"), True),
        ("POST /users/me", with_values(enum=["me"]), True),
        ("POST /users/me", with_values(enum=["you", "me"]), False),
        ("POST /users/7", with_values(enum=[7]), True),
        ("POST /users/me", with_values(const="me") | {"openapi": "3.1.0"}, True),
        ("POST /users/me", with_values(type="string"), None),
    ],
)
def test_path_parameters_have_example_values(rule, schema, required):
    operation = operation_of(schema, guard_of(rule, sources=[OWN]), path="/users/{id}")
    assert headers_of(operation).get("X-Ticket") is required


def test_a_path_parameter_may_be_a_reference():
    schema = document("/users/{id}", parameters=[{"$ref": "#/components/parameters/id"}])
    parameter = with_values()["paths"]["/users/{id}"]["post"]["parameters"][0]
    parameter["schema"] = {"$ref": "#/components/schemas/Who"}
    schema["components"] = {
        "parameters": {"id": parameter},
        "schemas": {"Who": {"type": "string", "enum": ["me"]}},
    }
    assert is_described(schema, guard_of("POST /users/me"), path="/users/{id}")


def test_the_number_of_example_paths_is_bounded():
    path = "/{a}/{b}/{c}/{d}"
    letters = {"type": "string", "enum": list("abcdefghijklmnopqrstuvwxyz")}
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": letters} for name in "abcd"
    ]
    schema = document(path, parameters=parameters)
    assert is_described(schema, guard_of("/**"), path=path)


@pytest.mark.parametrize(
    ("url", "variables"),
    [
        ("/v1", {}),
        ("/v1/", {}),
        ("v1", {}),
        ("https://shop.example/v1", {}),
        ("https://{region}.shop.example/{base}", {"region": "eu", "base": "v1"}),
    ],
)
@pytest.mark.parametrize("level", ["document", "item", "operation"])
def test_base_paths_of_servers_are_mounts(url, variables, level):
    schema = document()
    server = {"url": url, "variables": {n: {"default": v} for n, v in variables.items()}}
    levels = {
        "document": schema,
        "item": schema["paths"]["/login"],
        "operation": schema["paths"]["/login"]["post"],
    }
    schema["servers"] = [{"url": "https://shop.example/v2"}]
    levels[level]["servers"] = [{"url": "https://shop.example"}, server]
    assert is_described(schema, guard_of("POST /v1/login"))
    assert is_described(schema, guard_of("POST /login"))
    assert is_described(schema, guard_of("POST /v2/login")) is False


def test_the_mount_of_the_guard_or_of_the_caller_counts():
    assert is_described(document(), guard_of("POST /api/login", mounted_at="/api"))
    assert is_described(document(), guard_of("POST /api/login"), root_path="/api")
    assert not is_described(document(), guard_of("POST /api/login"))


def test_an_exempt_operation_is_not_described():
    assert not is_described(document(), guard_of("/**", exempt=["POST /login"]))


def test_the_first_rule_describes_an_operation_that_several_judge():
    # Neither rule's verifier suffices for the other's.
    rules = [Rule("POST /a/login", verifier=FakeVerifier()), Rule("POST /login", name="second")]
    operation = operation_of(document(), guard_of(*rules), root_path="/a")
    assert operation["x-tcaptcha"]["rule"] == "POST /a/login"


def test_one_of_two_paths_with_the_same_item_is_described():
    shared = {"post": {"responses": OK}}
    reference = {"$ref": "#/components/pathItems/shared"}
    schema = document() | {
        "openapi": "3.1.0",
        "paths": {"/login": reference | {"summary": "Log in."}, "/free": reference},
        "components": {"pathItems": {"shared": shared}},
    }
    described = describe(schema, guard_of())
    validate(described)
    assert described["paths"]["/login"]["post"]["x-tcaptcha"]["rule"] == "POST /login"
    assert described["paths"]["/login"]["summary"] == "Log in."
    assert described["paths"]["/free"] == reference
    assert described["components"]["pathItems"] == {"shared": shared}


@pytest.mark.parametrize(
    "reference",
    ["#/components/parameters/circle", "#/no/where", "#/paths/~1login/post/parameters/0"],
)
def test_a_reference_that_leads_nowhere_is_no_parameter(reference):
    schema = document(parameters=[{"$ref": reference}])
    schema["components"] = {
        "parameters": {"circle": {"$ref": "#/components/parameters/circle"}}
    }
    operation = describe(schema, guard_of())["paths"]["/login"]["post"]
    assert operation["parameters"][0] == {"$ref": reference}
    assert len(operation["parameters"]) == 3


# -- FastAPI ------


class Size(Enum):
    SMALL = "small"
    LARGE = "large"


class User(BaseModel):
    name: str


def shop(**settings):
    app = FastAPI(**settings)

    @app.post("/login")
    def login(user: Annotated[str, Form()], x_captcha_ticket: Annotated[str, Header()] = ""):
        raise AssertionError(user + x_captcha_ticket)

    @app.post("/orders/{size}/{kind}", responses={403: {"model": User}})
    def order(size: Size, kind: Literal["a", "b"], user: User) -> User:
        raise AssertionError(size, kind, user)

    @app.get("/free/{id}")
    def free(id: int) -> User:  # noqa: A002
        raise AssertionError(id)

    return app


ORDERS = ["POST /login", "POST /orders/small/{kind}"]


def test_fastapis_document_is_described_and_still_cached():
    app = shop()
    before = app.openapi()
    install(app, guard_of(*ORDERS))
    described = TestClient(app).get("/openapi.json").json()
    validate(described)
    assert described["openapi"].startswith("3.1")
    assert app.openapi() is app.openapi()
    login = described["paths"]["/login"]["post"]
    assert [p["name"] for p in login["parameters"]] == ["x-captcha-ticket", "X-Captcha-Randstr"]
    order = described["paths"]["/orders/{size}/{kind}"]["post"]
    assert [*order["responses"]["403"]["content"]] == ["application/json", PROBLEM]
    free = described["paths"]["/free/{id}"]
    assert free == json.loads(json.dumps(before["paths"]["/free/{id}"]))
    assert "x-tcaptcha" not in json.dumps(before)


def test_a_route_that_is_added_later_is_described():
    app = shop()
    install(app, guard_of("POST /late"))
    app.openapi()
    app.post("/late")(lambda: "")
    app.openapi_schema = None
    assert "x-tcaptcha" in app.openapi()["paths"]["/late"]["post"]


def test_two_guards_of_one_application_are_both_described():
    app = shop()
    install(app, guard_of("POST /login"))
    install(app, guard_of("POST /orders/**"))
    paths = app.openapi()["paths"]
    validate(app.openapi())
    assert "x-tcaptcha" in paths["/login"]["post"]
    assert "x-tcaptcha" in paths["/orders/{size}/{kind}"]["post"]


def test_the_root_path_of_fastapi_is_a_mount():
    with catch_warnings(action="ignore"):  # FastAPI deprecates `root_path`
        app = shop(root_path="/api")
    install(app, guard_of("POST /api/login"))
    described = TestClient(app).get("/openapi.json").json()
    assert described["servers"] == [{"url": "/api"}]
    assert "x-tcaptcha" in described["paths"]["/login"]["post"]
    with pytest.raises(ConfigurationError, match="leave mounted_at out"):
        install(app, guard_of(mounted_at="/other"))


def test_a_mounted_application_describes_the_rules_of_the_outer_one():
    app = shop()
    install(app, guard_of("POST /shop/login"), "/shop")
    described = TestClient(Starlette(routes=[Mount("/shop", app)])).get("/shop/openapi.json")
    assert "x-tcaptcha" in described.json()["paths"]["/login"]["post"]


# -- The documentation ------

PAGE = (Path(__file__).parents[2] / "docs/openapi.md").read_text()
BLOCKS = dict(
    zip(
        ("FastAPI", "Litestar", "Other documents"),
        re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE),
        strict=True,
    )
)


@pytest.mark.parametrize("title", BLOCKS)
def test_the_lines_of_the_documentation_describe_the_login(title, monkeypatch):
    monkeypatch.setattr(TencentVerifier, "from_env", FakeVerifier)
    module = ModuleType("shop")
    monkeypatch.setitem(sys.modules, "shop", module)  # where Litestar looks for annotations
    exec(BLOCKS[title], vars(module))
    if title == "FastAPI":
        module.app.post("/login")(lambda: "")
        described = module.app.openapi()
    elif title == "Litestar":
        described = module.app.openapi_schema.to_schema()
    else:
        described = module.described
    validate(described)
    assert described["paths"]["/login"]["post"]["x-tcaptcha"]["appId"] == "190000000"


@pytest.mark.parametrize("schema", [True, False])
def test_a_parameter_may_have_a_boolean_as_schema(schema):
    parameter = {"name": "user", "in": "path", "required": True, "schema": schema}
    written = document("/login/{user}", parameters=[parameter]) | {"openapi": "3.1.0"}
    assert is_described(written, guard_of("POST /login/{x}"), "/login/{user}")


@pytest.mark.parametrize("schema", [True, False])
def test_a_response_may_have_a_boolean_as_schema(schema):
    own = {"403": {"description": "No.", "content": {PROBLEM: {"schema": schema}}}}
    written = document(responses=OK | own) | {"openapi": "3.1.0"}
    content = operation_of(written)["responses"]["403"]["content"][PROBLEM]["schema"]
    assert content == {"anyOf": [schema, {"$ref": "#/components/schemas/TCaptcha403"}]}


@pytest.mark.parametrize("root_path", ["shop", "/shop/", "https://a.example"])
def test_a_mount_that_is_not_a_path_is_an_error(root_path):
    with pytest.raises(ConfigurationError, match="root_path"):
        describe(document(), guard_of(), root_path)
    with pytest.raises(ConfigurationError, match="root_path"):
        install(FastAPI(), guard_of(), root_path)


def protected():
    app = FastAPI()
    guard = protect(app, FakeVerifier(), ["POST /listed"], page="/tcaptcha")

    @app.post("/login")
    def login(captcha: Solved) -> str:
        raise AssertionError

    app.post("/listed")(lambda: "")
    app.get("/free")(lambda: "")
    return app, guard


def test_a_protected_application_of_fastapi_describes_marked_and_listed_handlers():
    app, _ = protected()
    served = TestClient(app).get("/openapi.json").json()
    validate(served)
    paths = served["paths"]
    assert paths["/login"]["post"]["x-tcaptcha"]["rule"] == "POST /login"
    assert paths["/listed"]["post"]["x-tcaptcha"]["rule"] == "POST /listed"
    assert "x-tcaptcha" not in paths["/free"]["get"]


def test_the_document_of_a_protected_application_may_be_installed_again():
    app, guard = protected()
    once = TestClient(app).get("/openapi.json").content
    install(app, guard)
    assert TestClient(app).get("/openapi.json").content == once


def test_a_document_that_replaces_fastapis_is_described_by_installing_again():
    app, guard = protected()
    app.openapi = document
    install(app, guard)
    assert "x-tcaptcha" in app.openapi()["paths"]["/login"]["post"]


# -- Applications without a guard ------

# Each is run in a process of its own; the second one has protected another application before.
SERVED = {
    "fastapi": """
from fastapi import FastAPI
from fastapi.testclient import TestClient

def make():
    app = FastAPI()
    app.post("/login")(lambda user: user)
    return app

def protected():
    from tcaptcha_middleware.integrations.fastapi import protect
    app = make()
    protect(app, FakeVerifier(), ["POST /login"])
    return app

url = "/openapi.json"
""",
    "litestar": """
from litestar import Litestar, post
from litestar.testing import TestClient

@post("/login")
async def login(user: str) -> str:
    return user

def make():
    return Litestar([login])

def protected():
    from tcaptcha_middleware import Guard
    from tcaptcha_middleware.integrations.litestar import TCaptchaPlugin
    plugin = TCaptchaPlugin(Guard(["POST /login"], FakeVerifier()))
    return Litestar([login], plugins=[plugin])

url = "/schema/openapi.json"
""",
}
ANOTHER_IS_PROTECTED = """
from tcaptcha_middleware.testing import FakeVerifier

assert "x-tcaptcha" in TestClient(protected()).get(url).text
"""
PRINT = """
import sys

sys.stdout.buffer.write(TestClient(make()).get(url).content)
"""


@pytest.mark.parametrize("framework", SERVED)
def test_the_document_of_an_unguarded_application_has_the_same_bytes(framework):
    def served(*lines):
        command = [sys.executable, "-c", "".join(lines)]
        return subprocess.run(command, capture_output=True, check=True, timeout=60).stdout

    alone = served(SERVED[framework], PRINT)
    assert b'"/login"' in alone
    assert served(SERVED[framework], ANOTHER_IS_PROTECTED, PRINT) == alone


def test_a_document_of_an_applications_own_is_left_alone():
    class Documented(Starlette):
        def openapi(self):
            return {}

    app = Documented()
    protect(app, FakeVerifier(), ["POST /login"])
    assert app.openapi() == {}
