"""The proxy that sweeps and outages are made with must itself be as good as a direct connection."""

import socket
import ssl
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import yaml
from kubernetes import client, config, watch
from urllib3.exceptions import HTTPError, ProtocolError

from lab.cluster import components
from lab.fleet import MANAGEMENT, Lab
from lab.kubeconfig import DEPLOYER
from lab.proxy import Proxy, Write
from tests.awaiting import awaited

pytestmark = pytest.mark.lab
LAB_WORKERS = 0


@pytest.fixture
def proxy(lab: Lab) -> Iterator[Proxy]:
    with Proxy(lab) as proxy:
        yield proxy


@pytest.fixture
def core(proxy: Proxy) -> Any:
    settings = client.Configuration()
    settings.retries = False
    config.load_kube_config(str(proxy.kubeconfig), MANAGEMENT, client_configuration=settings)
    return client.CoreV1Api(client.ApiClient(settings))


def config_map(name: str, **data: str) -> Any:
    return {"metadata": {"name": name}, "data": data}


def test_nobody_comes_in_without_the_deployers_certificate(
    lab: Lab, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    server = yaml.safe_load(proxy.kubeconfig.read_text())["clusters"][0]["cluster"]["server"]
    trust = ssl.create_default_context(cafile=lab.root / "kwok/clusters" / MANAGEMENT / "pki/ca.crt")

    with pytest.raises(OSError, match=r"(?i)certificate required|reset|closed|eof"):
        urllib.request.urlopen(f"{server}/version", context=trust, timeout=10)


def test_a_server_that_hangs_greets_nobody(lab: Lab, proxy: Proxy) -> None:
    address = urllib.parse.urlsplit(yaml.safe_load(proxy.kubeconfig.read_text())["clusters"][0]["cluster"]["server"])
    below = lab.root / "kwok/clusters" / MANAGEMENT
    (server,) = [process for _, name, process in components(below) if name == "kube-apiserver"]
    server.suspend()
    try:
        with (
            socket.create_connection((address.hostname, address.port), timeout=1) as connection,
            pytest.raises(TimeoutError),
        ):
            ssl.create_default_context().wrap_socket(connection, server_hostname=address.hostname)
    finally:
        server.resume()


def test_its_kubeconfig_is_the_labs_but_for_the_addresses(lab: Lab, proxy: Proxy) -> None:
    documents = [yaml.safe_load(path.read_text()) for path in (lab.kubeconfig, proxy.kubeconfig)]
    servers = [entry["cluster"].pop("server") for document in documents for entry in document["clusters"]]

    assert documents[0] == documents[1]
    assert len(set(servers)) == 2
    assert all(server.startswith("https://127.0.0.1:") for server in servers)
    assert proxy.kubeconfig.stat().st_mode & 0o777 == 0o600


def test_a_dry_run_and_a_review_are_no_writes(proxy: Proxy, core: Any) -> None:
    core.create_namespaced_config_map("default", config_map("tried"), dry_run="All")
    client.AuthenticationV1Api(core.api_client).create_self_subject_review(client.V1SelfSubjectReview())
    core.list_namespaced_config_map("default")

    assert proxy.writes == []


def test_a_write_is_numbered_and_is_the_deployers(lab: Lab, proxy: Proxy, core: Any) -> None:
    core.create_namespaced_config_map("default", config_map("first"))
    core.delete_namespaced_config_map("first", "default")

    assert [(write.number, write.cluster, write.method) for write in proxy.writes] == [
        (1, MANAGEMENT, "POST"),
        (2, MANAGEMENT, "DELETE"),
    ]
    made = [event for event in lab.audit(MANAGEMENT) if event["objectRef"].get("name") == "first"]
    assert {event["user"]["username"] for event in made} == {DEPLOYER}


def test_a_request_that_is_cut_never_was_and_a_reply_that_is_cut_was_a_write(proxy: Proxy, core: Any) -> None:
    cut: list[Write] = []

    def cutting(write: Write) -> None:
        cut.append(write)
        raise ConnectionAbortedError

    proxy.count("before", lambda write: True, cutting)
    with pytest.raises((HTTPError, OSError)):
        core.create_namespaced_config_map("default", config_map("cut-before"))
    proxy.count("after", lambda write: write.number == 2, cutting)
    core.create_namespaced_config_map("default", config_map("whole"))
    with pytest.raises((HTTPError, OSError)):
        core.create_namespaced_config_map("default", config_map("cut-after"))

    assert [write.number for write in cut] == [1, 2]
    there = {item.metadata.name for item in core.list_namespaced_config_map("default").items}
    assert there >= {"whole", "cut-after"}
    assert "cut-before" not in there


def test_large_bodies_come_through_whole_both_ways(core: Any) -> None:
    core.create_namespaced_config_map("default", config_map("large", text="ü" * 400_000))

    assert core.read_namespaced_config_map("large", "default").data["text"] == "ü" * 400_000


def test_a_watch_tells_of_what_happens_while_it_lasts(proxy: Proxy, core: Any) -> None:
    seen = threading.Event()

    def follow() -> None:
        for event in watch.Watch().stream(core.list_namespaced_config_map, "default", timeout_seconds=30):
            if event["object"].metadata.name == "watched":  # type: ignore[index]
                seen.set()
                return

    threading.Thread(target=follow, daemon=True).start()
    core.create_namespaced_config_map("default", config_map("watched"))

    assert seen.wait(20)


def test_nothing_is_idle_while_a_request_is_under_way(proxy: Proxy, core: Any) -> None:
    proxy.delays[MANAGEMENT] = 2
    try:
        with ThreadPoolExecutor(1) as apart:
            asked = apart.submit(core.list_namespaced_config_map, "default")
            awaited(lambda: proxy.idle() == 0, 10)
            asked.result()
    finally:
        proxy.delays.clear()

    awaited(lambda: proxy.idle() > 0.1, 10)


def test_a_flapping_cluster_refuses_every_other_connection(proxy: Proxy) -> None:
    proxy.flapping.add(MANAGEMENT)
    answers: list[object] = []
    for _ in range(4):
        settings = client.Configuration()
        settings.retries = False
        config.load_kube_config(str(proxy.kubeconfig), MANAGEMENT, client_configuration=settings)
        try:
            client.VersionApi(client.ApiClient(settings)).get_code()
            answers.append(True)
        except (ProtocolError, HTTPError, OSError):
            answers.append(False)
        except client.ApiException as error:
            # So the client tells of a connection that ends within the handshake: with 0.
            answers.append(error.status)

    assert answers == [True, False] * 2


def test_a_stopped_cluster_is_away_and_one_that_is_back_is_there_again(lab: Lab, proxy: Proxy, core: Any) -> None:
    core.list_namespace()
    lab.stop(MANAGEMENT)
    with pytest.raises((HTTPError, OSError)):
        core.list_namespace()
    lab.start(MANAGEMENT)

    assert core.list_namespace().items
