"""The settings of tests/backend, with deploy/django instead of the backend's own query counter."""

import os

from shop.settings import *  # noqa: F403
from shop.settings import MIDDLEWARE as SHIPPED

THEIRS, OURS = "booking.middleware.QueryCountMiddleware", "reprise_django.QueryCountMiddleware"
MIDDLEWARE = [OURS if name == THEIRS else name for name in SHIPPED]
REPRISE = {"URL": os.environ.get("REPRISE_ADMIN_URL", "http://127.0.0.1:9090"), "TIMEOUT": 5}
