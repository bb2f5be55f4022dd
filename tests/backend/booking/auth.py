from django.contrib.auth import authenticate, login, logout
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import AllowAny, IsAuthenticated
from rest_framework.response import Response
from rest_framework.serializers import CharField, Serializer
from rest_framework.views import APIView


def identity(user):
    return {"id": user.pk, "username": user.get_username()}


class Credentials(Serializer):
    username = CharField()
    password = CharField(trim_whitespace=False)


class LoginView(APIView):
    """Starts a session: sets `sessionid`, and the `csrftoken` that later writes have to repeat."""

    # With session authentication a second login would need the first one's CSRF token.
    authentication_classes = []
    permission_classes = [AllowAny]

    def post(self, request):
        given = Credentials(data=request.data)
        given.is_valid(raise_exception=True)
        user = authenticate(request, **given.validated_data)
        if user is None:
            raise AuthenticationFailed
        login(request, user)
        return Response(identity(user))


class LogoutView(APIView):
    permission_classes = [IsAuthenticated]

    def post(self, request):
        logout(request)
        return Response(status=204)


class MeView(APIView):
    permission_classes = [IsAuthenticated]

    def get(self, request):
        return Response(identity(request.user))
