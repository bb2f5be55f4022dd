from rest_framework import serializers

from .models import Booking, Event, Movie, Showtime, Theater, Ticket, TicketType


class CountField(serializers.IntegerField):
    """A count that `summary()` has annotated, or else one more query for this row: the N+1 of `?slow=1`."""

    def __init__(self, count):
        super().__init__(read_only=True, source="*")
        self.count = count

    def to_representation(self, row):
        annotated = getattr(row, self.field_name, None)
        return self.count(row) if annotated is None else annotated


class CatalogueSerializer(serializers.ModelSerializer):
    showtime_count = CountField(lambda row: row.showtimes.count())


class TheaterSerializer(CatalogueSerializer):
    class Meta:
        model = Theater
        fields = ["id", "name", "city", "seats", "showtime_count"]


class MovieSerializer(CatalogueSerializer):
    class Meta:
        model = Movie
        fields = ["id", "title", "genre", "minutes", "showtime_count"]


class TicketTypeSerializer(serializers.ModelSerializer):
    class Meta:
        model = TicketType
        fields = ["id", "name", "price"]


class EventSerializer(CatalogueSerializer):
    owner = serializers.CharField(source="owner.username", read_only=True)
    ticket_types = TicketTypeSerializer(many=True, read_only=True)
    booking_count = CountField(lambda event: Booking.objects.filter(showtime__event=event).count())

    class Meta:
        model = Event
        fields = [
            "id", "title", "description", "category", "location", "starts", "published", "owner",
            "ticket_types", "showtime_count", "booking_count",
        ]  # fmt: skip


class ShowtimeSerializer(serializers.ModelSerializer):
    movie_title = serializers.CharField(source="movie.title", read_only=True)
    theater_name = serializers.CharField(source="theater.name", read_only=True)
    booked = CountField(lambda showtime: Ticket.objects.filter(booking__showtime=showtime).count())

    class Meta:
        model = Showtime
        fields = [
            "id", "event", "movie", "movie_title", "theater", "theater_name", "starts", "price",
            "seats", "booked",
        ]  # fmt: skip


class TicketSerializer(serializers.ModelSerializer):
    ticket_type = serializers.CharField(source="ticket_type.name", default=None)

    class Meta:
        model = Ticket
        fields = ["id", "ticket_type", "price"]


class BookingSerializer(serializers.ModelSerializer):
    user = serializers.CharField(source="user.username")
    event = serializers.IntegerField(source="showtime.event_id")
    seats = serializers.SerializerMethodField()
    tickets = TicketSerializer(many=True)

    class Meta:
        model = Booking
        fields = ["id", "user", "showtime", "event", "seats", "tickets", "created"]

    def get_seats(self, booking) -> int:
        return len(booking.tickets.all())


class SeatsSerializer(serializers.Serializer):
    seats = serializers.IntegerField(min_value=1, max_value=100)


class OrderSerializer(SeatsSerializer):
    """What a customer sends: a showtime, or an event whose first showtime with enough seats will do."""

    showtime = serializers.PrimaryKeyRelatedField(queryset=Showtime.objects.all(), required=False)
    event = serializers.PrimaryKeyRelatedField(queryset=Event.objects.filter(published=True), required=False)

    def validate(self, order):
        if not order.keys() & {"showtime", "event"}:
            raise serializers.ValidationError("A showtime or an event is required.")
        return order

    def candidates(self):
        """The showtimes that would satisfy this order, first choice first."""
        order, showtimes = self.validated_data, Showtime.objects.all()
        if "showtime" in order:
            showtimes = showtimes.filter(pk=order["showtime"].pk)
        if "event" in order:
            showtimes = showtimes.filter(event=order["event"])
        return showtimes
