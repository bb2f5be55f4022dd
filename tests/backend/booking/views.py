from django.db import transaction
from django.db.models import Count, F, Q, Sum
from rest_framework import viewsets
from rest_framework.decorators import action
from rest_framework.exceptions import APIException, ValidationError
from rest_framework.filters import BaseFilterBackend
from rest_framework.generics import get_object_or_404
from rest_framework.permissions import SAFE_METHODS, BasePermission, IsAuthenticated
from rest_framework.response import Response
from rest_framework.views import APIView

from .models import Booking, Event, Movie, Showtime, Theater, Ticket
from .serializers import (
    BookingSerializer,
    EventSerializer,
    MovieSerializer,
    OrderSerializer,
    SeatsSerializer,
    ShowtimeSerializer,
    TheaterSerializer,
)


class SoldOut(APIException):
    status_code = 409
    default_detail = "Not enough seats."
    default_code = "sold_out"


class StaffWrites(BasePermission):
    def has_permission(self, request, view):
        return request.method in SAFE_METHODS or request.user.is_staff


class OwnerWrites(BasePermission):
    def has_object_permission(self, request, view, event):
        return request.method in SAFE_METHODS or request.user.is_staff or event.owner_id == request.user.pk


class FieldFilter(BaseFilterBackend):
    """`?q=` looks into the view's `search_in`; each of `filter_by` is a parameter of that name."""

    def filter_queryset(self, request, queryset, view):
        if words := request.query_params.get("q"):
            found = Q()
            for field in view.search_in:
                found |= Q(**{f"{field}__icontains": words})
            queryset = queryset.filter(found)
        for field in view.filter_by:
            if value := request.query_params.get(field):
                try:
                    queryset = queryset.filter(**{field: value})
                except ValueError as error:
                    raise ValidationError({field: "Not a valid value."}) from error
        return queryset


class Catalogue(viewsets.ModelViewSet):
    filter_backends = [FieldFilter]
    search_in = ()
    filter_by = ()

    def rows(self):
        return self.serializer_class.Meta.model.objects.all()

    def get_queryset(self):
        # `?slow=1` is the view as it was before somebody looked at its queries.
        return self.rows() if "slow" in self.request.query_params else self.rows().summary()

    @action(detail=False)
    def search(self, request):
        return self.list(request)


class TheaterViewSet(Catalogue):
    permission_classes = [StaffWrites]
    serializer_class = TheaterSerializer
    search_in = ["name", "city"]
    filter_by = ["city"]


class MovieViewSet(Catalogue):
    permission_classes = [StaffWrites]
    serializer_class = MovieSerializer
    search_in = ["title", "genre"]
    filter_by = ["genre"]


class EventViewSet(Catalogue):
    permission_classes = [*Catalogue.permission_classes, OwnerWrites]
    serializer_class = EventSerializer
    search_in = ["title", "description"]
    filter_by = ["category", "location"]

    def rows(self):
        return Event.objects.visible_to(self.request.user)

    def perform_create(self, serializer):
        serializer.save(owner=self.request.user)

    @action(detail=True, permission_classes=[IsAuthenticated])
    def analytics(self, request, pk):
        event = self.get_object()
        tickets = Ticket.objects.filter(booking__showtime__event=event)
        mine = tickets.filter(booking__user=request.user).count()
        return Response({"event": event.pk, "user": request.user.username, "my_seats": mine, **sales(tickets)})


class ShowtimeViewSet(Catalogue):
    permission_classes = [StaffWrites]
    serializer_class = ShowtimeSerializer
    search_in = ["movie__title", "theater__name", "event__title"]
    filter_by = ["event", "movie", "theater"]

    @action(detail=True)
    def availability(self, request, pk):
        showtime = get_object_or_404(Showtime.objects.with_booked(), pk=pk)
        available = showtime.seats - showtime.booked
        return Response(
            {
                "showtime": showtime.pk,
                "seats": showtime.seats,
                "booked": showtime.booked,
                "available": available,
                "sold_out": available == 0,
            }
        )


class BookingViewSet(viewsets.ModelViewSet):
    http_method_names = ["get", "post", "patch", "delete", "head", "options"]
    permission_classes = [IsAuthenticated]
    serializer_class = BookingSerializer

    def get_queryset(self):
        mine = Booking.objects.filter(user=self.request.user)
        return mine if "slow" in self.request.query_params else mine.summary()

    def create(self, request):
        order = OrderSerializer(data=request.data)
        order.is_valid(raise_exception=True)
        seats = order.validated_data["seats"]
        with transaction.atomic():
            showtime = order.candidates().with_booked().filter(booked__lte=F("seats") - seats).first()
            if showtime is None:
                raise SoldOut
            booking = Booking.objects.create(user=request.user, showtime=showtime)
            booking.set_seats(seats)
        return self.answer(booking, status=201)

    def partial_update(self, request, pk):
        change = SeatsSerializer(data=request.data)
        change.is_valid(raise_exception=True)
        seats = change.validated_data["seats"]
        with transaction.atomic():
            booking = self.get_object()
            others = Ticket.objects.filter(booking__showtime=booking.showtime).exclude(booking=booking)
            if others.count() + seats > booking.showtime.seats:
                raise SoldOut
            booking.set_seats(seats)
        return self.answer(booking)

    def answer(self, booking, **kwargs):
        return Response(self.get_serializer(self.get_queryset().get(pk=booking.pk)).data, **kwargs)


class AnalyticsView(APIView):
    """Staff see the whole shop, everybody else what they bought themselves."""

    permission_classes = [IsAuthenticated]

    def get(self, request):
        tickets = Ticket.objects.all() if request.user.is_staff else Ticket.objects.filter(booking__user=request.user)
        summary = {"user": request.user.username, "scope": "all" if request.user.is_staff else "own"}
        if request.user.is_staff:
            catalogue = {"events": Event, "movies": Movie, "theaters": Theater, "showtimes": Showtime}
            summary |= {name: model.objects.count() for name, model in catalogue.items()}
        return Response({**summary, **sales(tickets)})


def sales(tickets):
    sold = tickets.aggregate(bookings=Count("booking", distinct=True), seats_sold=Count("pk"), revenue=Sum("price"))
    return {**sold, "revenue": f"{sold['revenue'] or 0:.2f}"}
