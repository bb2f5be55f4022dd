"""Migrates and fills an empty database. The same rows and ids every time: tests name them."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from django.contrib.auth.models import User
from django.core.management import BaseCommand, call_command
from django.db import connection, transaction
from rest_framework.authtoken.models import Token

from booking.models import Booking, Event, Movie, Showtime, Theater, TicketType

OPENING = datetime(2027, 1, 1, 18, tzinfo=UTC)
CITIES = ["Berlin", "Lisbon", "Oslo", "New York"]
GENRES = ["drama", "comedy", "thriller"]
CATEGORIES = ["music", "film", "sport", "theatre"]
NIGHTS = ["Concert", "Premiere", "Final", "Gala"]


class Command(BaseCommand):
    help = __doc__

    def handle(self, **options):
        call_command("migrate", verbosity=0)
        with transaction.atomic():
            users = [self.user("alice"), self.user("bob"), self.user("carol", is_staff=True)]
            self.catalogue(users)
            self.bookings(users)
        # The last connection to close folds the WAL into the file, which can then be copied on its own.
        connection.close()

    def user(self, name, **kwargs):
        user = User.objects.create_user(name, password=f"{name}-password", **kwargs)
        Token.objects.create(user=user, key=name[0] * 40)
        return user

    def catalogue(self, users):
        for n in range(1, 13):
            city = CITIES[n % len(CITIES)]
            Theater.objects.create(name=f"Theater {n}", city=city, seats=100)
        for n in range(1, 31):
            Movie.objects.create(title=f"Movie {n}", genre=GENRES[n % len(GENRES)], minutes=80 + n)
        for n in range(1, 43):
            event = Event.objects.create(
                owner=users[(n - 1) % 2],
                title=f"{NIGHTS[n % len(NIGHTS)]} {n}",
                description=f"Night {n} of the season.",
                category=CATEGORIES[n % len(CATEGORIES)],
                location=CITIES[n % len(CITIES)],
                starts=OPENING + timedelta(days=n),
                published=n <= 40,
            )
            for name, price in [("Standard", 10), ("Premium", 25)]:
                TicketType.objects.create(event=event, name=name, price=Decimal(price))
        for n in range(1, 121):
            Showtime.objects.create(
                # Three to an event; the last thirty are plain cinema, so the first thirty events have them all.
                event_id=(n - 1) % 30 + 1 if n <= 90 else None,
                movie_id=(n - 1) % 30 + 1,
                theater_id=(n - 1) % 12 + 1,
                starts=OPENING + timedelta(days=n % 30, hours=n % 5),
                seats=4 if n == 120 else 100,
                price=Decimal("12.50"),
            )

    def bookings(self, users):
        # Alice and Bob, thirty each, on showtimes 1-60. None for Carol: an empty list is a case too.
        for n in range(1, 61):
            booking = Booking.objects.create(user=users[(n - 1) % 2], showtime_id=n)
            booking.set_seats(1 + n % 3)
        Booking.objects.update(created=OPENING)
