#!/usr/bin/env python3
"""Smoke test of the backend alone: `check.py` starts it on a free port and asks it everything once.

Standard library only. Each check is a function; its name is what it claims.
"""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path
from urllib.parse import urlencode

HERE = Path(__file__).resolve().parent
ALICE, BOB, CAROL = (f"Token {letter * 40}" for letter in "abc")


class Answer:
    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.text = response.read().decode()

    @property
    def json(self):
        return json.loads(self.text)

    @property
    def cookies(self):
        pairs = [line.split(";")[0].split("=", 1) for line in self.headers.get_all("Set-Cookie", [])]
        return dict(pairs)


class Backend:
    def __init__(self, folder):
        self.folder = folder
        self.gates = folder / "gates"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    def start(self, **env):
        begin = time.monotonic()
        command = [HERE / "run", str(self.port), self.folder]
        self.process = subprocess.Popen(command, env=os.environ | {"BOOKING_TEST_HOOKS": "1"} | env)
        while not self.listening():
            if self.process.poll() is not None:
                sys.exit("the backend did not start")
            time.sleep(0.01)
        return time.monotonic() - begin

    def listening(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def port_is_free(self):
        """By binding, not by connecting: a connection would wake the very worker that ought to be gone."""
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", self.port))
            except OSError:
                return False
            return True

    def stop(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        self.process.wait(10)

    def ask(self, method, path, user=None, body=None, **headers):
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if user:
            headers["Authorization"] = user
        if body is not None:
            headers["Content-Type"] = "application/json"
            body = json.dumps(body)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=40)
        try:
            connection.request(method, path, body, headers)
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def get(self, path, user=None, **headers):
        return self.ask("GET", path, user, **headers)

    def book(self, user, **order):
        return self.ask("POST", "/api/bookings/", user, order)

    def available(self, showtime):
        return self.get(f"/api/showtimes/{showtime}/availability/").json["available"]


def equal(found, wanted):
    assert found == wanted, f"{found!r} instead of {wanted!r}"


def lists_have_the_seeded_rows(app):
    for name, count in {"events": 40, "movies": 30, "theaters": 12, "showtimes": 120}.items():
        page = app.get(f"/api/{name}/").json
        equal((page["count"], len(page["results"])), (count, 10))
        equal(app.get(f"/api/{name}/1/").json, page["results"][0])
        equal(app.get(f"/api/{name}/999/").status, 404)
        equal(app.get(f"/api/{name}/nonsense/").status, 404)


def pages_link_to_each_other_by_the_requests_host(app):
    page = app.get("/api/events/?page=2&page_size=15", Host="shop.example").json
    equal(page["next"], "http://shop.example/api/events/?page=3&page_size=15")
    equal(page["previous"], "http://shop.example/api/events/?page_size=15")
    equal(page["results"][0]["id"], 16)
    equal(app.get("/api/events/?page=99").status, 404)


def searches_find_by_words_and_by_fields(app):
    def count(path, **query):
        return app.get(f"/api/{path}/search/?{urlencode(query)}").json["count"]

    equal(count("events", q="concert"), 10)
    equal(count("events", q="concert", location="New York"), 0)
    equal(count("events", category="film", location="Lisbon"), 10)
    equal(count("movies", q="comedy"), 10)
    equal(count("theaters", q="oslo"), 3)
    equal(count("showtimes", movie=1), 4)
    equal(count("showtimes", q="Theater 12"), 10)
    equal(app.get("/api/showtimes/search/?movie=x").status, 400)


def drafts_are_their_owners_alone(app):
    counts = [app.get("/api/events/", user).json["count"] for user in (None, ALICE, BOB, CAROL)]
    equal(counts, [40, 41, 41, 42])
    equal([app.get("/api/events/41/", user).status for user in (ALICE, BOB)], [200, 404])


def answers_carry_what_drf_sends_and_nothing_about_caching(app):
    answer = app.get("/api/events/")
    equal(answer.headers["Vary"], "Accept, Cookie")
    equal(answer.headers["Allow"], "GET, POST, HEAD, OPTIONS")
    equal(answer.headers["X-Frame-Options"], "DENY")
    equal(answer.headers["Content-Length"], str(len(answer.text.encode())))
    for absent in ("Cache-Control", "ETag", "Expires", "Last-Modified", "Set-Cookie"):
        equal((absent, answer.headers[absent]), (absent, None))
    equal(app.get("/api/events").status, 301)
    equal(app.get("/api/events/", Accept="text/html").headers.get_content_type(), "text/html")


def queries_are_counted_and_slow_views_ask_once_per_row(app):
    def queries(path, user=None):
        return int(app.get(path, user).headers["X-Query-Count"])

    for path, fast, slow in [("events", 3, 42), ("movies", 2, 12), ("showtimes", 2, 32)]:
        equal((queries(f"/api/{path}/"), queries(f"/api/{path}/?slow=1")), (fast, slow))
        equal(app.get(f"/api/{path}/").json["results"], app.get(f"/api/{path}/?slow=1").json["results"])
    assert queries("/api/bookings/?slow=1", ALICE) > queries("/api/bookings/", ALICE) + 20


def anonymous_callers_get_401_where_a_user_is_needed(app):
    needed = ["bookings/", "bookings/1/", "users/me/", "analytics/", "events/1/analytics/"]
    equal([app.get(f"/api/{path}").status for path in needed], [401] * len(needed))
    equal(app.get("/api/bookings/").headers["WWW-Authenticate"], "Token")
    equal(app.get("/api/events/", "Token wrong").status, 401)
    equal(app.ask("POST", "/api/movies/", body={}).status, 401)


def tokens_are_given_for_passwords(app):
    given = app.ask("POST", "/api/token/", body={"username": "alice", "password": "alice-password"})
    equal(given.json, {"token": "a" * 40})
    equal(app.ask("POST", "/api/token/", body={"username": "alice", "password": "no"}).status, 400)
    equal(app.get("/api/users/me/", BOB).json, {"id": 2, "username": "bob"})


def sessions_log_in_write_with_csrf_and_log_out(app):
    login = app.ask("POST", "/api/login/", body={"username": "alice", "password": "alice-password"})
    equal((login.status, login.json), (200, {"id": 1, "username": "alice"}))
    cookie = "; ".join(f"{name}={value}" for name, value in login.cookies.items())
    csrf = login.cookies["csrftoken"]
    order = {"showtime": 70, "seats": 1}
    equal(app.get("/api/users/me/", Cookie=cookie).json["username"], "alice")
    equal(app.ask("POST", "/api/bookings/", body=order, Cookie=cookie).status, 403)
    equal(app.ask("POST", "/api/bookings/", body=order, Cookie=cookie, X_CSRFToken=csrf).status, 201)
    equal(app.ask("POST", "/api/logout/", Cookie=cookie, X_CSRFToken=csrf).status, 204)
    equal(app.get("/api/users/me/", Cookie=cookie).status, 401)
    equal(app.ask("POST", "/api/login/", body={"username": "alice", "password": "no"}).status, 403)


def bookings_take_change_and_give_back_seats(app):
    equal(app.available(61), 100)
    booked = app.book(ALICE, showtime=61, seats=3)
    equal(booked.status, 201)
    booking = booked.json
    equal([booking[key] for key in ("user", "showtime", "event", "seats")], ["alice", 61, 1, 3])
    equal([ticket["ticket_type"] for ticket in booking["tickets"]], ["Standard"] * 3)
    path = f"/api/bookings/{booking['id']}/"
    equal(app.get(path, ALICE).json, booking)
    equal(app.available(61), 97)
    equal(app.ask("PATCH", path, ALICE, {"seats": 5}).json["seats"], 5)
    equal(app.available(61), 95)
    equal(app.ask("PATCH", path, ALICE, {"seats": 2}).json["seats"], 2)
    equal(app.available(61), 98)
    gone = app.ask("DELETE", path, ALICE)
    equal((gone.status, gone.text), (204, ""))
    equal((app.available(61), app.get(path, ALICE).status), (100, 404))


def bookings_are_each_users_own(app):
    equal(app.get("/api/bookings/", CAROL).json["count"], 0)
    equal({row["user"] for row in app.get("/api/bookings/?page_size=100", BOB).json["results"]}, {"bob"})
    equal(
        [app.ask(method, "/api/bookings/1/", BOB, {"seats": 9}).status for method in ("GET", "PATCH", "DELETE")],
        [404] * 3,
    )


def bookings_by_event_take_its_first_showtime(app):
    booking = app.book(BOB, event=5, seats=2).json
    equal((booking["event"], booking["showtime"]), (5, 5))
    equal(app.book(BOB, event=5, showtime=6, seats=1).status, 409)
    equal(app.book(BOB, showtime=91, seats=1).json["event"], None)


def bad_orders_are_refused(app):
    for order in [{}, {"seats": 1}, {"showtime": 1}, {"showtime": 1, "seats": 0}, {"showtime": 999, "seats": 1}]:
        equal((order, app.book(ALICE, **order).status), (order, 400))
    equal(app.book(None, showtime=1, seats=1).status, 401)


def the_last_seats_are_sold_once(app):
    answers = []
    buyers = [
        threading.Thread(target=lambda who=who: answers.append(app.book(who, showtime=120, seats=1).status))
        for who in [ALICE, BOB, CAROL] * 3
    ]
    for buyer in buyers:
        buyer.start()
    for buyer in buyers:
        buyer.join()
    equal(sorted(answers), [201] * 4 + [409] * 5)
    equal(app.get("/api/showtimes/120/availability/").json["sold_out"], True)


def analytics_depend_on_the_caller(app):
    before = [app.get("/api/events/7/analytics/", user).json for user in (ALICE, BOB)]
    app.book(BOB, event=7, seats=2)
    after = [app.get("/api/events/7/analytics/", user).json for user in (ALICE, BOB)]
    equal([new["seats_sold"] - old["seats_sold"] for old, new in zip(before, after, strict=True)], [2, 2])
    equal([new["my_seats"] - old["my_seats"] for old, new in zip(before, after, strict=True)], [0, 2])
    equal([app.get("/api/analytics/", user).json["scope"] for user in (ALICE, CAROL)], ["own", "all"])


def the_catalogue_is_written_by_those_who_may(app):
    event = {"title": "New", "category": "film", "location": "Oslo", "starts": "2027-05-01T20:00:00Z"}
    made = app.ask("POST", "/api/events/", ALICE, event)
    equal((made.status, made.json["owner"]), (201, "alice"))
    path = f"/api/events/{made.json['id']}/"
    equal(app.ask("PATCH", path, BOB, {"title": "Mine"}).status, 403)
    equal(app.ask("PATCH", path, ALICE, {"title": "Newer"}).json["title"], "Newer")
    equal(app.ask("DELETE", path, CAROL).status, 204)
    equal(app.ask("PATCH", "/api/movies/1/", ALICE, {"title": "X"}).status, 403)
    equal(app.ask("PATCH", "/api/movies/1/", CAROL, {"title": "Movie one"}).status, 200)
    equal(app.get("/api/showtimes/1/").json["movie_title"], "Movie one")


def a_held_answer_shows_what_was_read_before_the_hold(app):
    old, held = app.available(80), []
    reader = threading.Thread(
        target=lambda: held.append(app.get("/api/showtimes/80/availability/", X_Test_Hold="seats"))
    )
    reader.start()
    while not (app.gates / "seats.held").exists():
        time.sleep(0.005)
    equal(app.book(ALICE, showtime=80, seats=1).status, 201)
    equal((app.available(80), held), (old - 1, []))
    (app.gates / "seats.release").touch()
    reader.join()
    equal((held[0].json["available"], held[0].headers["X-Test-Held"]), (old, "released"))
    equal(app.get("/api/events/", X_Test_Hold="../x").status, 400)


def a_restart_may_keep_the_database_and_kill_leaves_nothing_behind(app):
    booking = app.book(CAROL, showtime=90, seats=1).json["id"]
    app.stop(signal.SIGKILL)
    deadline = time.monotonic() + 2
    while not app.port_is_free():
        assert time.monotonic() < deadline, "a worker outlived its master"
        time.sleep(0.01)
    app.start(BOOKING_KEEP="1", BOOKING_TEST_HOOKS="")
    equal(app.get(f"/api/bookings/{booking}/", CAROL).status, 200)
    equal(app.get("/api/events/1/", X_Test_Hold="x").headers["X-Test-Held"], None)
    app.stop()
    app.start()
    equal(app.get("/api/bookings/", CAROL).json["count"], 0)


CHECKS = [
    lists_have_the_seeded_rows,
    pages_link_to_each_other_by_the_requests_host,
    searches_find_by_words_and_by_fields,
    drafts_are_their_owners_alone,
    answers_carry_what_drf_sends_and_nothing_about_caching,
    queries_are_counted_and_slow_views_ask_once_per_row,
    anonymous_callers_get_401_where_a_user_is_needed,
    tokens_are_given_for_passwords,
    sessions_log_in_write_with_csrf_and_log_out,
    bookings_take_change_and_give_back_seats,
    bookings_are_each_users_own,
    bookings_by_event_take_its_first_showtime,
    bad_orders_are_refused,
    the_last_seats_are_sold_once,
    analytics_depend_on_the_caller,
    the_catalogue_is_written_by_those_who_may,
    a_held_answer_shows_what_was_read_before_the_hold,
    a_restart_may_keep_the_database_and_kill_leaves_nothing_behind,
]


def main():
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        app = Backend(Path(folder))
        print(f"started in {app.start():.2f} s")
        try:
            for check in CHECKS:
                try:
                    check(app)
                except Exception:
                    failed += 1
                    print(f"FAILED {check.__name__}\n{traceback.format_exc()}")
        finally:
            app.stop()
    print(f"{len(CHECKS) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
