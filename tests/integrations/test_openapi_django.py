"""Documents that django-ninja and drf-spectacular generate, with the captcha described."""

from __future__ import annotations

import json

import pytest
from django.test import Client
from django.urls import path
from django_inside import project
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.openapi import AutoSchema
from ninja import Form, NinjaAPI, Schema  # noqa: TC002  django-ninja reads it
from openapi_spec_validator import validate
from rest_framework.serializers import CharField, Serializer
from rest_framework.views import APIView

from tcaptcha_middleware import Guard
from tcaptcha_middleware.integrations.openapi import describe
from tcaptcha_middleware.testing import FakeVerifier

GUARD = Guard(["POST /api/login", "UNSAFE /api/orders/{x}"], FakeVerifier())
PROTECTED = {
    ("post", "/api/login"): "POST /api/login",
    ("put", "/api/orders/{number}"): "UNSAFE /api/orders/{x}",
}


class Login(Schema):
    user: str


def in_ninja():
    api = NinjaAPI(title="Shop", urls_namespace="shop")

    @api.post("/login")
    def login(request, data: Form[Login]) -> Login:
        raise AssertionError

    @api.put("/orders/{int:number}")
    def change(request, number: int, data: Login) -> Login:
        raise AssertionError

    @api.get("/orders/{int:number}")
    def show(request, number: int) -> Login:
        raise AssertionError

    return path("api/", api.urls), api.get_openapi_schema


def as_served(schema):
    return json.loads(json.dumps(schema))  # the statuses of django-ninja are numbers


class LoginSerializer(Serializer):
    user = CharField()


class LoginView(APIView):
    schema = AutoSchema()
    serializer_class = LoginSerializer

    def post(self, request):
        raise AssertionError


class OrderView(APIView):
    schema = AutoSchema()
    serializer_class = LoginSerializer

    def get(self, request, number):
        raise AssertionError

    put = get


def in_spectacular():
    patterns = [
        path("api/login", LoginView.as_view()),
        path("api/orders/<int:number>", OrderView.as_view()),
    ]
    return *patterns, lambda: SchemaGenerator(patterns=patterns).get_schema(public=True)


@pytest.mark.parametrize("make", [in_ninja, in_spectacular])
def test_the_operations_of_a_generated_document_are_described(make):
    *patterns, schema = make()
    with project(patterns, {"GUARD": GUARD}):
        generated = schema()
        before = json.dumps(generated)
        described = as_served(describe(generated, GUARD))
        answer = Client().put("/api/orders/1").json()
    validate(as_served(generated))
    validate(described)
    assert json.dumps(generated) == before
    operations = {
        (method, template): operation
        for template, item in described["paths"].items()
        for method, operation in item.items()
    }
    assert operations.keys() == {*PROTECTED, ("get", "/api/orders/{number}")}
    shown = {
        place: operation["x-tcaptcha"]["rule"]
        for place, operation in operations.items()
        if "x-tcaptcha" in operation
    }
    assert shown == PROTECTED
    login = operations["post", "/api/login"]
    assert [p["name"] for p in login["parameters"]] == ["X-Captcha-Ticket", "X-Captcha-Randstr"]
    codes = described["components"]["schemas"]["TCaptcha403"]["properties"]["code"]["enum"]
    assert answer["code"] in codes


@pytest.mark.parametrize("make", [in_ninja, in_spectacular])
def test_a_generated_document_without_protected_operations_stays_as_it_is(make):
    *patterns, schema = make()
    with project(patterns, {"GUARD": GUARD}):
        generated = schema()
    described = describe(generated, Guard(["POST /other"], FakeVerifier()))
    assert json.dumps(described) == json.dumps(generated)
