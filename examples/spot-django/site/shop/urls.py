"""One page, which tells which release serves it and how one came."""

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path


def front(request: HttpRequest) -> HttpResponse:
    return render(request, "front.html", {"release": settings.RELEASE, "secure": request.is_secure()})


urlpatterns = [path("", front)]
