"""An authentication backend that knows one user, and needs no database."""

from __future__ import annotations

from django.contrib.auth.models import User


class Backend:
    def authenticate(self, request, username=None, password=None):
        if (username, password) != ("ada", "secret"):
            return None
        user = User(pk=1, username="ada", is_staff=True, is_superuser=True)
        user.save = lambda **_: None  # Django notes the time of the login
        return user

    def get_user(self, pk):
        return self.authenticate(None, "ada", "secret")
