"""deploy/django against the real backend: this process writes to the backend's database, past the proxy.

In: the backend's Python, the settings beside this file. The readers ask through a real sidecar, with the shipped
proxy.toml. What is promised: never the old answer once a write has committed, and no drop for one that did not.
"""

import contextlib
import os
import sys
import time

from stage import BINARY, ROOT, Process, ask, backend, check, folder, free_port, redis, say, series, shipped, until

sys.path[:0] = [str(ROOT / "deploy/django"), str(ROOT / "tests/backend")]
APP, TRAFFIC, ADMIN, REDIS = (free_port() for _ in range(4))
URL = f"http://127.0.0.1:{ADMIN}"


def configured(path):
    """The shipped file, on the ports of this test."""
    text = shipped(TRAFFIC, ADMIN, REDIS)
    file = path / "proxy.toml"
    file.write_text(text)
    return file


def get(path):
    answer = ask(TRAFFIC, path)
    check(answer.status == 200, path, answer)
    return answer.headers["x-cache"], answer.json()


def title(movie, *expected):
    """Reads a movie through the proxy: what the cache did, and its title."""
    result, shown = get(f"/api/movies/{movie}/")
    told = (result, shown["title"])
    check(told in expected, f"movie {movie}: {told}, expected one of {expected}")


def warm(movie, name):
    get(f"/api/movies/{movie}/")
    title(movie, ("HIT", name))


def purges():
    return series(ADMIN)['reprise_cache_invalidations_total{source="api"}']


def queries_are_counted():
    from django.test import Client, override_settings
    from django.conf import settings
    from shop.settings import MIDDLEWARE as shipped

    pages = ["/api/movies/", "/api/events/?slow=1&page_size=100", "/api/showtimes/3/availability/", "/api/users/me/"]
    counts = {}
    for name, middleware in [("ours", settings.MIDDLEWARE), ("theirs", shipped)]:
        with override_settings(MIDDLEWARE=middleware):
            replies = [Client().get(page, HTTP_AUTHORIZATION="Token " + "a" * 40) for page in pages]
            counts[name] = [int(reply["X-Query-Count"]) for reply in replies]
    check(counts["ours"] == counts["theirs"], counts)
    check(counts["ours"][1] > 50 and min(counts["ours"]) > 0, counts)
    direct = ask(APP, pages[1])
    check(int(direct.headers["x-query-count"]) > 50, direct.headers)
    check("x-query-count" in ask(TRAFFIC, pages[1]).headers, "a miss shows no count")
    seen = series(ADMIN)
    over = seen['reprise_upstream_db_queries_count{route="events.list"}']
    over -= seen['reprise_upstream_db_queries_bucket{route="events.list",le="50"}']
    check(over == 1, f"{over} answers of more than 50 queries")


def a_commit_drops_and_a_rollback_does_not():
    from booking.models import Movie
    from django.db import transaction
    from reprise_django import purge_on_commit

    name = Movie.objects.get(pk=3).title
    warm(3, name)
    get("/api/movies/")
    with transaction.atomic():
        Movie.objects.filter(pk=3).update(title="Third")
        purge_on_commit("movie:3")
        title(3, ("HIT", name))  # not yet: nobody else sees the row either
    title(3, ("MISS", "Third"))
    check(get("/api/movies/")[0] != "HIT", "the list that shows it was kept")
    before = purges()
    with contextlib.suppress(ZeroDivisionError), transaction.atomic():
        Movie.objects.filter(pk=3).update(title="Never")
        purge_on_commit("movie:3")
        raise ZeroDivisionError
    title(3, ("HIT", "Third"))
    check(purges() == before, "a rollback purged")


def one_transaction_is_one_purge_and_savepoints_keep_apart():
    from booking.models import Movie
    from django.db import transaction
    from reprise_django import purge_on_commit

    names = dict(Movie.objects.values_list("pk", "title"))
    for movie in (4, 5, 6):
        warm(movie, names[movie])
    before = purges()
    with transaction.atomic():
        for _ in range(50):
            purge_on_commit("movie:4")
        with contextlib.suppress(ZeroDivisionError), transaction.atomic():
            purge_on_commit("movie:5")
            raise ZeroDivisionError
        with transaction.atomic():
            purge_on_commit("movie:6")
        purge_on_commit("movie:4", "theater:1")
    check(purges() == before + 2, f"{purges() - before} requests")  # one for each fate
    title(4, ("MISS", names[4]))
    title(5, ("HIT", names[5]))
    title(6, ("MISS", names[6]))
    with contextlib.suppress(ZeroDivisionError), transaction.atomic():
        purge_on_commit("movie:4")
        raise ZeroDivisionError
    purge_on_commit("movie:6")  # not in a transaction: at once, and not with what was rolled back
    title(4, ("HIT", names[4]))
    title(6, ("MISS", names[6]))


def models_drop_by_themselves():
    from booking.models import Movie, Showtime
    from reprise_django import drops

    drops(Movie, "movie:{pk}", "theater:{no_such.thing}")
    drops(Showtime, "showtime:{pk}", "movie:{movie.pk}")
    movie = Movie.objects.get(pk=7)
    warm(7, movie.title)
    get("/api/theaters/2/")
    movie.title = "Seventh"
    movie.save()
    title(7, ("MISS", "Seventh"))
    check(get("/api/theaters/2/")[0] == "MISS", "a value that is not there must drop the class")
    warm(8, Movie.objects.get(pk=8).title)
    Showtime.objects.filter(movie=8).last().delete()
    check(get("/api/movies/8/")[0] == "MISS", "a deleted showtime must drop its movie")


def an_announced_write_is_never_read_stale():
    from booking.models import Movie
    from reprise_django import cache_write

    name = Movie.objects.get(pk=9).title
    warm(9, name)
    with cache_write("movie:9"):
        Movie.objects.filter(pk=9).update(title="Ninth")
        for _ in range(3):  # from before the commit, and never stored
            result, shown = get("/api/movies/9/")
            check(result not in ("HIT", "STALE") and shown["title"] == name, result, shown)
    title(9, ("MISS", "Ninth"))
    title(9, ("HIT", "Ninth"))
    check(series(ADMIN)["reprise_coherence_open_intents"] == 0, "an announcement was left open")


def an_announced_write_that_fails_drops_nothing():
    from booking.models import Movie
    from django.db import transaction
    from reprise_django import cache_write

    warm(9, "Ninth")
    with contextlib.suppress(ZeroDivisionError), cache_write("movie:9"):
        Movie.objects.filter(pk=9).update(title="Never")
        raise ZeroDivisionError
    title(9, ("HIT", "Ninth"))
    with cache_write("movie:9"):
        transaction.set_rollback(True)
    title(9, ("HIT", "Ninth"))
    check(series(ADMIN)["reprise_coherence_open_intents"] == 0, "an announcement was left open")


def an_inner_announced_write_ends_with_the_outer_commit():
    from booking.models import Movie
    from django.db import transaction
    from reprise_django import cache_write

    warm(9, "Ninth")
    with transaction.atomic():
        with cache_write("movie:9"):
            Movie.objects.filter(pk=9).update(title="Outer")
        result, shown = get("/api/movies/9/")
        check((result != "HIT", shown["title"]) == (True, "Ninth"), result, shown)
    title(9, ("MISS", "Outer"))


def a_write_that_outlives_its_announcement_is_purged():
    from booking.models import Movie
    from reprise_django import cache_write

    warm(9, "Outer")
    with cache_write("movie:9", ttl="1s"):
        Movie.objects.filter(pk=9).update(title="Late")
        # The announcement lapses, and the old answer is stored again.
        until("the announcement has lapsed", lambda: get("/api/movies/9/")[0] == "HIT", 20)
        title(9, ("HIT", "Outer"))
    title(9, ("MISS", "Late"))


def what_changed_can_be_told_at_the_end():
    from booking.models import Movie
    from reprise_django import cache_write

    names = dict(Movie.objects.values_list("pk", "title"))
    warm(10, names[10])
    warm(11, names[11])
    with cache_write("movie:*") as write:
        Movie.objects.filter(pk=10).update(title="Tenth")
        write.changed("movie:10")
    title(10, ("MISS", "Tenth"))
    title(11, ("HIT", names[11]))


def a_sidecar_that_is_away_is_said_so():
    from booking.models import Movie
    from django.db import transaction
    from django.test import override_settings
    from reprise_django import Refused, Unreachable, cache_write, purge, purge_on_commit

    away = {"URL": f"http://127.0.0.1:{free_port()}", "TIMEOUT": 1}
    ran = []
    with override_settings(REPRISE=away):
        with transaction.atomic():
            Movie.objects.filter(pk=12).update(title="Twelfth")
            purge_on_commit("movie:12")  # logged, not raised: the commit stands
        try:
            with cache_write("movie:12"):
                ran.append("although it could not be announced")
        except Unreachable:
            ran.append("raised")
        with cache_write("movie:12", required=False):
            ran.append("not announced")
    check(ran == ["raised", "not announced"], ran)
    check(Movie.objects.get(pk=12).title == "Twelfth", "the commit did not stand")
    try:
        purge("no tag at all {")
    except Refused as refused:
        check(refused.status == 400, refused)
    else:
        check(False, "a tag that cannot be read was accepted")
    check(purge("movie:12")["reached"] == "everywhere", "the purge did not reach everybody")


TESTS = [
    queries_are_counted,
    a_commit_drops_and_a_rollback_does_not,
    one_transaction_is_one_purge_and_savepoints_keep_apart,
    models_drop_by_themselves,
    an_announced_write_is_never_read_stale,
    an_announced_write_that_fails_drops_nothing,
    an_inner_announced_write_ends_with_the_outer_commit,
    a_write_that_outlives_its_announcement_is_purged,
    what_changed_can_be_told_at_the_end,
    a_sidecar_that_is_away_is_said_so,
]


def main():
    with folder() as path, contextlib.ExitStack() as stack:
        here = str(ROOT / "tests/deploy")
        os.environ |= {
            "DJANGO_SETTINGS_MODULE": "shop_with_reprise",
            "PYTHONPATH": os.pathsep.join([here, str(ROOT / "deploy/django")]),
            "BOOKING_DB": str(path / "database/booking.sqlite3"),
            "REPRISE_ADMIN_URL": URL,
        }
        stack.enter_context(redis(REDIS, path))
        stack.enter_context(backend(APP, path))
        env = {"REPRISE_UPSTREAM_URL": f"http://127.0.0.1:{APP}"}
        sidecar = Process("sidecar", [BINARY, "run", "--config", configured(path)], path, env)
        stack.enter_context(sidecar)
        until("the sidecar serves", lambda: sidecar.alive() and ask(ADMIN, "/readyz").status == 200)
        until("it may cache", lambda: get("/api/theaters/1/")[0] == "HIT")
        import django

        django.setup()
        for test in TESTS:
            began = time.monotonic()
            test()
            say(f"{test.__name__.replace('_', ' ')}: {time.monotonic() - began:.1f} s")


if __name__ == "__main__":
    main()
