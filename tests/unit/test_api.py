"""What is asked of an API server, and how long its answer is awaited."""

from collections.abc import Callable

import pytest

from components.settings import ClusterSettings
from operations.api import TIMES, Api, Refused, Unanswered
from tests.unit.conftest import Server


@pytest.fixture
def api(cluster: Callable[..., ClusterSettings]) -> Api:
    """A client with a minute's time."""
    return Api(cluster({}), 60)


def test_a_server_that_trickles_is_given_up_at_the_deadline(
    cluster: Callable[..., ClusterSettings], server: Server
) -> None:
    server.trickles.set()

    with pytest.raises(Unanswered, match="hasn't answered within 1 s"):
        Api(cluster({}), 1).enter()


def test_nothing_is_forwarded_as_the_user_itself_where_it_acts_as_another(api: Api, server: Server) -> None:
    api._client.set_default_header("Impersonate-User", "admin")

    with pytest.raises(Unanswered, match="as the user itself"):
        api.forwarded("gloo-mesh", "pod", 9091, "/metrics")

    assert not server.asked


@pytest.mark.parametrize("body", ["upstream down", '"upstream down"', "[1]", "null", "5"])
@pytest.mark.parametrize("status", [200, 503])
def test_whatever_a_proxy_answers_is_a_refusal(api: Api, server: Server, status: int, body: str) -> None:
    server.answer = (status, body)

    with pytest.raises(Refused) as refused:
        api.enter()

    assert (refused.value.status, refused.value.asked) == (status, "GET /version")


def test_a_server_that_stays_busy_is_given_up(api: Api, server: Server) -> None:
    server.busy = ["0"] * TIMES

    with pytest.raises(Refused, match="Too Many Requests"):
        api.enter()

    assert len(server.asked) == TIMES


@pytest.mark.parametrize("pause", ["3600", "Fri, 01 Jan 2100 00:00:00 GMT", ""])
def test_nothing_is_awaited_that_comes_too_late_or_is_no_number_of_seconds(
    api: Api, server: Server, pause: str
) -> None:
    server.busy = [pause]

    with pytest.raises(Refused):
        api.enter()

    assert len(server.asked) == 1


def test_a_question_that_a_busy_server_puts_off_is_asked_again(api: Api, server: Server) -> None:
    server.busy = ["0", "0"]

    api.enter()

    assert api.version == "1"
    assert len(server.asked) == 3
