"""A stock Django + DRF set-up: what a proxy meets is what the frameworks send when nobody has tuned them."""

import os

SECRET_KEY = "for tests only"
DEBUG = False
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "shop.urls"
WSGI_APPLICATION = "shop.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TIME_ZONE = "UTC"
STATIC_URL = "static/"

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "rest_framework",
    "rest_framework.authtoken",
    "booking",
]

MIDDLEWARE = [
    # Outermost: a held answer has left every other layer, so its session and its queries are done.
    "booking.middleware.HoldMiddleware",
    # Outside sessions and authentication, whose queries count too.
    "booking.middleware.QueryCountMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

# The browsable API needs these; without a second renderer DRF would not send `Vary: Accept`.
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
            ],
        },
    },
]

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("BOOKING_DB", ":memory:"),
        "CONN_MAX_AGE": None,
        "OPTIONS": {
            # Readers go on during a write, and every read is one snapshot.
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
            # Takes the write lock at BEGIN: two bookings of the last seat queue, and neither counts
            # tickets before the other has committed. It also keeps "database is locked" away.
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
        },
    },
}

# Tests log in often, and a slow hash would be most of what they measure.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

REST_FRAMEWORK = {
    # Token first: it has a challenge, so an anonymous caller gets 401 where sessions alone give 403.
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "rest_framework.authentication.TokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticatedOrReadOnly"],
    "DEFAULT_PAGINATION_CLASS": "booking.pagination.Pages",
}
