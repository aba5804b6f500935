"""Test an application as it is: the fixture `tcaptcha` is Tencent, emulated.

Run it in this folder; in a project, `tcaptcha = true` is in the configuration of pytest:

    pytest -o tcaptcha=true test_with_plugin.py
"""

from fastapi.testclient import TestClient
from fastapi_marked_app import app

from tcaptcha_middleware.testing.emulated import EmulatedTencent

client = TestClient(app)


def login(tcaptcha: EmulatedTencent) -> int:
    return client.post("/login", headers=tcaptcha.headers()).status_code


def test_a_solved_captcha_logs_in(tcaptcha: EmulatedTencent) -> None:
    assert login(tcaptcha) == 200
    tcaptcha.assert_verified()


def test_no_login_without_a_captcha(tcaptcha: EmulatedTencent) -> None:
    assert client.post("/login").json()["code"] == "ticket_missing"


def test_an_expired_ticket_does_not_log_in(tcaptcha: EmulatedTencent) -> None:
    tcaptcha.answer(8)
    assert login(tcaptcha) == 403


def test_an_outage_of_tencent_does_not_log_in(tcaptcha: EmulatedTencent) -> None:
    with tcaptcha.down():
        assert login(tcaptcha) == 503
