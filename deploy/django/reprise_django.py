"""Reprise for Django: query counts, and drops for what is written past the proxy.

A write that is proxied needs none of this: Reprise sees it and drops what it makes obsolete. A management command, a Celery
task, the admin site on another port, a shell: those it does not see, and this module tells it.

    MIDDLEWARE = ["reprise_django.QueryCountMiddleware", ...]       # first: it counts what is below it

    drops(Movie, "movie:{pk}", "showtime:*")                        # in AppConfig.ready(): after each save() and delete()

    with transaction.atomic():                                      # after a commit, never after a rollback
        Movie.objects.filter(genre="noir").update(genre="crime")
        purge_on_commit("movie:*")

    with cache_write("movie:5"):                                    # the strong one: nobody reads the old movie once this
        import_movie(5)                                             # block has ended, through any replica

One file without dependencies: copy it, or put its folder on the path. Settings, all of them optional:

    REPRISE = {
        "URL": "http://127.0.0.1:9090",     # the admin port of a sidecar; default: $REPRISE_ADMIN_URL, else this
        "TOKEN": "...",                     # for [admin] write_access = "token"; default: $REPRISE_ADMIN_TOKEN
        "TIMEOUT": 5,                       # seconds for one request
    }
"""

import json
import logging
import os
import re
import time
import urllib.error
import urllib.request
from contextlib import ExitStack, contextmanager

from django.conf import settings
from django.db import connections, transaction
from django.db.models.signals import post_delete, post_save

__all__ = ["QueryCountMiddleware", "Refused", "Unreachable", "cache_write", "drops", "purge", "purge_on_commit"]

log = logging.getLogger("reprise")

# A proxy that the environment names is for the outside, not for the sidecar.
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
PAUSES = (0.1, 0.4, 1.0)  # between the tries of a purge: it may be done twice, but should not be left out


class Unreachable(Exception):
    """Reprise, or the log that its replicas share, does not answer."""


class Refused(Exception):
    """Reprise does not do it: a wrong token, a tag that it cannot read. Trying again does not help."""

    def __init__(self, status, reason):
        super().__init__(f"{status}: {reason}")
        self.status = status


class QueryCountMiddleware:
    """`X-Query-Count` on every answer: how many statements its request sent to the databases.

    Reprise makes a histogram per route of it. Queries of a streamed body come after its head, and are not counted.
    """

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        count = 0

        def counted(execute, *args):
            nonlocal count
            count += 1
            return execute(*args)

        with ExitStack() as stack:
            for connection in connections.all():
                stack.enter_context(connection.execute_wrapper(counted))
            response = self.get_response(request)
        response["X-Query-Count"] = str(count)
        return response


def purge(*tags, paths=(), routes=(), keys=(), soft=False):
    """Drops what has these tags, paths, routes or exact URLs, now. Gives Reprise's report.

    Returns when no replica can serve any more what was there; `report["reached"]` says so with `everywhere`.
    """
    what = named(tags=tags, paths=paths, routes=routes, keys=keys)
    return settle({**what, "soft": True} if soft else what)


def purge_on_commit(*tags, paths=(), routes=(), keys=(), using=None):
    """Drops these when the running transaction has committed; at once if there is none. A rollback drops nothing.

    What the same transaction (or savepoint) asks for is sent as one request. The commit cannot be undone when the purge
    fails: that is logged as an error, and the entries live until their ttl. Where that is too long, use `cache_write`.
    """
    wanted = named(tags=tags, paths=paths, routes=routes, keys=keys)
    connection = transaction.get_connection(using)
    if connection.in_atomic_block:
        # Django forgets callbacks of a savepoint that is rolled back. Only a callback with the same savepoints shares
        # our fate, and only one that is still there will run.
        here = set(connection.savepoint_ids)
        for savepoints, callback, *_ in connection.run_on_commit:
            if isinstance(callback, Batch) and savepoints == here:
                callback.add(wanted)
                return
    batch = Batch()
    batch.add(wanted)
    transaction.on_commit(batch, using=using)


class Batch:
    """What one transaction wants dropped."""

    def __init__(self):
        self.wanted = {}

    def add(self, wanted):
        for field, values in wanted.items():
            self.wanted.setdefault(field, {}).update(dict.fromkeys(values))

    def __call__(self):
        settle_or_say({field: list(values) for field, values in self.wanted.items()})


def drops(model, *tags, using=None):
    """From now on each `save()` and `delete()` of this model drops these tags when it commits.

    `{pk}` is the object's own, `{movie_id}` any attribute, `{movie.theater_id}` one of a related object; `None` is the
    whole class (`movie:*`). `update()`, `bulk_create()` and raw SQL send no signal: call `purge_on_commit` beside them. Nor
    does the signal know the old value of a field: where `{movie_id}` may change, say `movie:*`.
    """

    def changed(sender, instance, **_):
        alias = using or instance._state.db
        purge_on_commit(*(filled(tag, instance) for tag in tags), using=alias)

    for signal in (post_save, post_delete):
        signal.connect(changed, sender=model, weak=False, dispatch_uid=("reprise", model, signal is post_save, tags))


def filled(tag, instance):
    """`movie:{movie_id}` with the instance's values; with a value that is not there, the whole class."""

    def value(match):
        found = instance
        for attribute in match[1].split("."):
            found = getattr(found, attribute, None)
        missing.append(found is None)
        return str(found)

    missing = []
    text = re.sub(r"\{([\w.]+)\}", value, tag)
    return tag.partition(":")[0] + ":*" if any(missing) else text


class Write:
    """An announced write. `changed` narrows what is dropped at its end to what did change."""

    def __init__(self, announced):
        self.announced, self.token, self.told = announced, None, {}
        self.committed = self.failed = False

    def changed(self, *tags, paths=()):
        """Says what was changed. Without a word it is all that was announced."""
        for field, values in named(tags=tags, paths=paths).items():
            self.told.setdefault(field, []).extend(values)

    def commit(self):
        """The transaction has committed."""
        self.committed = True
        report = self.end({"committed": True, **self.told})
        # No report: its time was over, and what was stored since then may be from before the commit. Or Reprise is out of
        # reach: then the announcement lapses by itself, and a purge that gets through makes it sooner.
        if report.get("reached") != "everywhere":
            settle_or_say(self.told or self.announced)

    def roll_back(self):
        """Nothing was changed."""
        self.end({"committed": False})

    def end(self, how):
        if self.token is None:
            return {}
        token, self.token = self.token, None
        try:
            return post("close", {"token": token, **how})
        except (Unreachable, Refused) as error:
            log.warning("an announced write was not ended, it has lapsed or will: %s", error)
            return {}


@contextmanager
def cache_write(*tags, paths=(), routes=(), ttl=None, using=None, required=True):
    """A transaction whose writes get what a proxied write gets: once it has committed, nobody reads what was before.

    Before the block runs, these tags are announced: they are answered by the app until the block's transaction has ended,
    so that nothing from before the commit is stored behind its back. An exception rolls back and drops nothing. Inside
    another `atomic` the end is that one's commit; if that one is rolled back, the announcement lapses after `ttl`.

    `ttl` ("30s") is the longest time until the commit; default: `[coherence] intent_ttl`. If Reprise cannot be reached,
    `Unreachable` is raised and the block does not run; with `required=False` it runs, and what is stored until then and not
    purged in time may be stale for its ttl. Not for `async` code.
    """
    write = Write(named(tags=tags, paths=paths, routes=routes))
    try:
        write.token = post("intent", {**write.announced, **({"ttl": ttl} if ttl else {})})["token"]
    except Unreachable as error:
        if required:
            raise
        log.warning("a write is not announced: %s", error)
    outermost = not transaction.get_connection(using).in_atomic_block
    try:
        with transaction.atomic(using=using):
            # Before the block's own callbacks, so that one of them that fails does not keep this from running.
            transaction.on_commit(write.commit, using=using)
            try:
                yield write
            except BaseException:
                write.failed = True
                raise
    except BaseException:
        if write.failed:
            # Rolled back, to its savepoint at least: whatever becomes of an outer transaction, nothing of it stays.
            write.roll_back()
        # Else it was the commit that failed, and nobody knows whether it took place: the announcement stays until it
        # lapses, and then what it names is dropped.
        raise
    if outermost and not write.committed:
        write.roll_back()  # after set_rollback(True) there is no exception


def named(**fields):
    """The fields that name something, as lists."""
    lists = {field: [values] if isinstance(values, str) else list(values) for field, values in fields.items()}
    return {field: values for field, values in lists.items() if values}


def settle_or_say(wanted):
    """After a commit there is no way back: what fails is an error in the log."""
    try:
        settle(wanted)
    except (Unreachable, Refused) as error:
        log.error("not dropped after a commit, and stale until its ttl: %s: %s", wanted, error)


def settle(wanted):
    """A purge that is tried again until every replica has heard of it."""
    if not wanted:
        return {"reached": "nobody"}
    for pause in (*PAUSES, None):
        try:
            report = post("purge", wanted)
        except Unreachable:
            if pause is None:
                raise
        else:
            if report.get("reached") == "everywhere":
                return report
            if pause is None:
                raise Unreachable(f"only {report.get('reached')} was reached")
        time.sleep(pause)


def post(action, body):
    """One request to the admin port."""
    given = getattr(settings, "REPRISE", {})
    url = given.get("URL") or os.environ.get("REPRISE_ADMIN_URL", "http://127.0.0.1:9090")
    secret = given.get("TOKEN") or os.environ.get("REPRISE_ADMIN_TOKEN")
    headers = {"Content-Type": "application/json"}
    if secret:
        headers["Authorization"] = f"Bearer {secret}"
    request = urllib.request.Request(f"{url.rstrip('/')}/api/v1/{action}", json.dumps(body).encode(), headers)
    try:
        with opener.open(request, timeout=given.get("TIMEOUT", 5)) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        reason = error.read().decode(errors="replace").strip()
        if error.code >= 500:
            raise Unreachable(reason) from error
        raise Refused(error.code, reason) from error
    except (OSError, ValueError) as error:
        raise Unreachable(f"{url}: {error}") from error
