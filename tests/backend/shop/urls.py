from django.urls import include, path
from rest_framework.authtoken.views import obtain_auth_token
from rest_framework.routers import SimpleRouter

from booking import auth, views

router = SimpleRouter()
router.register("events", views.EventViewSet, basename="event")
router.register("theaters", views.TheaterViewSet, basename="theater")
router.register("movies", views.MovieViewSet, basename="movie")
router.register("showtimes", views.ShowtimeViewSet, basename="showtime")
router.register("bookings", views.BookingViewSet, basename="booking")

urlpatterns = [
    path(
        "api/",
        include(
            [
                path("token/", obtain_auth_token),
                path("login/", auth.LoginView.as_view()),
                path("logout/", auth.LogoutView.as_view()),
                path("users/me/", auth.MeView.as_view()),
                path("analytics/", views.AnalyticsView.as_view()),
                *router.urls,
            ]
        ),
    ),
]
