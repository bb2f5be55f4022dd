import os
import re
import time
from pathlib import Path

from django.core.exceptions import MiddlewareNotUsed
from django.db import connection
from django.http import HttpResponseBadRequest


class QueryCountMiddleware:
    """`X-Query-Count` on every answer: how many statements its request sent to the database."""

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        count = 0

        def counted(execute, *args):
            nonlocal count
            count += 1
            return execute(*args)

        with connection.execute_wrapper(counted):
            response = self.get_response(request)
        response["X-Query-Count"] = str(count)
        return response


class HoldMiddleware:
    """A test hook: `X-Test-Hold: NAME` keeps a finished answer back until the test lets it go.

    The view has run and its answer is rendered (for a write: committed). Then NAME.held appears in the
    directory BOOKING_GATES, and the answer leaves when NAME.release exists there. A header and not a
    query parameter, because the request must keep the URL that a cache would key on.
    """

    LONGEST = 30.0
    NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")

    def __init__(self, get_response):
        if os.environ.get("BOOKING_TEST_HOOKS") != "1":
            raise MiddlewareNotUsed
        self.get_response = get_response
        self.gates = Path(os.environ["BOOKING_GATES"])

    def __call__(self, request):
        name = request.headers.get("X-Test-Hold")
        if name is None:
            return self.get_response(request)
        if not self.NAME.fullmatch(name):
            return HttpResponseBadRequest("X-Test-Hold: letters, digits, - and _ only")
        response = self.get_response(request)
        response["X-Test-Held"] = "released" if self.hold(name) else "timed-out"
        return response

    def hold(self, name):
        deadline = time.monotonic() + self.LONGEST
        (self.gates / f"{name}.held").touch()
        release = self.gates / f"{name}.release"
        while not release.exists():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.005)
        return True
