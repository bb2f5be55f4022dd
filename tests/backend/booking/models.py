from django.conf import settings
from django.db import models
from django.db.models import Count, Q

# `summary()` is what the lists should use: everything they show in a fixed number of queries. It names its
# order, because Django drops Meta.ordering from a query that groups, and pages of unordered rows may overlap.


class CatalogueQuerySet(models.QuerySet):
    def summary(self):
        return self.annotate(showtime_count=Count("showtimes")).order_by("id")


class Theater(models.Model):
    name = models.CharField(max_length=100)
    city = models.CharField(max_length=100)
    seats = models.PositiveIntegerField()

    objects = CatalogueQuerySet.as_manager()

    class Meta:
        ordering = ["id"]


class Movie(models.Model):
    title = models.CharField(max_length=200)
    genre = models.CharField(max_length=50)
    minutes = models.PositiveIntegerField()

    objects = CatalogueQuerySet.as_manager()

    class Meta:
        ordering = ["id"]


class EventQuerySet(models.QuerySet):
    def visible_to(self, user):
        """Drafts are their owner's (and staff's) alone, so one URL has several right answers."""
        if user.is_staff:
            return self
        return self.filter(Q(published=True) | Q(owner_id=user.pk))

    def summary(self):
        return (
            self.select_related("owner")
            .prefetch_related("ticket_types")
            .annotate(
                showtime_count=Count("showtimes", distinct=True),
                booking_count=Count("showtimes__bookings", distinct=True),
            )
            .order_by("id")
        )


class Event(models.Model):
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="events")
    title = models.CharField(max_length=200)
    description = models.TextField(blank=True)
    category = models.CharField(max_length=50)
    location = models.CharField(max_length=100)
    starts = models.DateTimeField()
    published = models.BooleanField(default=True)

    objects = EventQuerySet.as_manager()

    class Meta:
        ordering = ["id"]


class TicketType(models.Model):
    event = models.ForeignKey(Event, models.CASCADE, related_name="ticket_types")
    name = models.CharField(max_length=50)
    price = models.DecimalField(max_digits=8, decimal_places=2)

    class Meta:
        ordering = ["price", "id"]


class ShowtimeQuerySet(models.QuerySet):
    def with_booked(self):
        """One query, one snapshot: `seats` and `booked` always belong together."""
        return self.annotate(booked=Count("bookings__tickets")).order_by("id")

    def summary(self):
        return self.select_related("movie", "theater").with_booked()


class Showtime(models.Model):
    event = models.ForeignKey(Event, models.SET_NULL, null=True, blank=True, related_name="showtimes")
    movie = models.ForeignKey(Movie, models.CASCADE, related_name="showtimes")
    theater = models.ForeignKey(Theater, models.CASCADE, related_name="showtimes")
    starts = models.DateTimeField()
    seats = models.PositiveIntegerField()
    price = models.DecimalField(max_digits=8, decimal_places=2)

    objects = ShowtimeQuerySet.as_manager()

    class Meta:
        ordering = ["id"]


class BookingQuerySet(models.QuerySet):
    def summary(self):
        return self.select_related("showtime").prefetch_related("tickets__ticket_type")


class Booking(models.Model):
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="bookings")
    showtime = models.ForeignKey(Showtime, models.CASCADE, related_name="bookings")
    created = models.DateTimeField(auto_now_add=True)

    objects = BookingQuerySet.as_manager()

    class Meta:
        ordering = ["id"]

    def set_seats(self, seats):
        """Issue or withdraw tickets until there are `seats`. The caller has checked that they exist."""
        issued = list(self.tickets.values_list("pk", flat=True))
        self.tickets.filter(pk__in=issued[seats:]).delete()
        kind = TicketType.objects.filter(event=self.showtime.event_id).first()
        price = kind.price if kind else self.showtime.price
        new = [Ticket(booking=self, ticket_type=kind, price=price) for _ in range(seats - len(issued))]
        Ticket.objects.bulk_create(new)


class Ticket(models.Model):
    """One seat. Nothing else counts seats, so bookings and availability cannot disagree."""

    booking = models.ForeignKey(Booking, models.CASCADE, related_name="tickets")
    ticket_type = models.ForeignKey(TicketType, models.SET_NULL, null=True)
    price = models.DecimalField(max_digits=8, decimal_places=2)

    class Meta:
        ordering = ["id"]
