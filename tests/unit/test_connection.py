"""Credentials beside Pulumi's plugins: every form works, none is repeated, none hangs."""

import base64
import dataclasses
import json
import os
import ssl
import tempfile
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import psutil
import pytest
import urllib3.connection
from kubernetes.config import kube_config
from urllib3.util import ssl_

from components import connection
from components.settings import ClusterSettings
from components.settings.fields import Source
from operations.api import Refused
from operations.everywhere import unreachable
from operations.preflight import access
from tests.authority import Made, root
from tests.awaiting import awaited
from tests.unit.conftest import Server

CANARY = "credential-canary-0815"
ROOT = root(signs=None)
"""An authority without keyUsage, as many a cluster's."""


def plugin(script: str, **more: Any) -> dict[str, Any]:
    """A user who logs in by this shell script."""
    path = Path("login").absolute()
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(path), **more}}


def credential(**status: str) -> str:
    answer = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status}
    return f"echo '{json.dumps(answer)}'"


def anna() -> dict[str, str]:
    """A user who logs in by a client certificate."""
    made = ROOT.client("anna")
    pems = {"client-certificate-data": made.pem, "client-key-data": made.key_pem}
    return {key: base64.b64encode(pem.encode()).decode() for key, pem in pems.items()}


def why(cluster: ClusterSettings) -> str:
    """Why it doesn't answer, as people read it; empty when it does."""
    return connection.reason(silent) if (silent := unreachable([cluster]).get("management")) else ""


def test_a_cluster_with_the_same_authority_and_user_is_entered_while_anothers_files_are_written(
    cluster: Callable[..., ClusterSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library writes a file for each content, and names it to whoever asks before it has."""
    authority = base64.b64encode(ROOT.pem.encode()).decode()
    shared = cluster(anna(), server="https://127.0.0.1:1", **{"certificate-authority-data": authority})
    others: list[Future[Any]] = []

    def slow(*arguments: Any) -> Any:
        if not others:
            others.append(pool.submit(connection.connected, shared))
            wait(others, timeout=0.5)
        return open(*arguments)

    monkeypatch.setattr(kube_config, "open", slow, raising=False)
    with ThreadPoolExecutor() as pool:
        connection.connected(shared)

    assert others[0].result()


def test_a_plugin_that_hangs_is_given_up_and_ended_with_all_it_started(
    cluster: Callable[..., ClusterSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "LOGIN_SECONDS", 3)

    with pytest.raises(connection.HangingLoginError, match="credential plugin login hasn't answered within 3 s"):
        connection.connected(cluster(plugin("sleep 4711 & echo $! > child; wait")))

    child = int(Path("child").read_text())
    # Killed, it closes its pipes before it is gone.
    awaited(lambda: not runs(child), seconds=10)


def test_a_plugin_that_hangs_is_given_up_though_what_it_left_behind_holds_its_output(
    cluster: Callable[..., ClusterSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "LOGIN_SECONDS", 3)

    with pytest.raises(connection.HangingLoginError):
        connection.connected(cluster(plugin("setsid sleep 60 & echo $! > child; wait")))

    child = int(Path("child").read_text())
    assert runs(child), "the browser that a login opened was waited for"
    psutil.Process(child).kill()


def test_a_login_that_the_library_would_do_without_a_deadline_is_refused(
    cluster: Callable[..., ClusterSettings],
) -> None:
    user = {"auth-provider": {"name": "gcp", "config": {"cmd-path": "/bin/sleep", "cmd-args": "4711"}}}

    assert "logs in by an auth-provider" in why(cluster(user))


@pytest.mark.parametrize("more", [{"as-groups": ["a", "b"]}, {"as-user-extra": {"reason": ["night"]}}])
def test_acting_as_more_than_the_library_can_say_is_refused(
    cluster: Callable[..., ClusterSettings], more: dict[str, Any]
) -> None:
    assert "acts as a user with several groups" in why(cluster({"as": "admin", **more}))


@pytest.mark.parametrize(
    "user",
    [
        {"exec": "aws"},
        {"exec": {"command": "/bin/true", "env": [{"name": "A"}]}},
        {"exec": {"command": "/bin/true", "env": [{"name": "A", "value": 5}]}},
        {"tokenFile": 5},
    ],
)
def test_a_user_that_is_written_wrongly_is_the_kubeconfigs_fault(
    user: dict[str, Any], cluster: Callable[..., ClusterSettings]
) -> None:
    asked = cluster(user)

    assert "its kubeconfig" in why(asked)
    assert access.finding(asked, unreachable([asked])["management"]).kind.code == "kubeconfig-unusable"


def test_a_certificate_that_is_none_has_no_end(cluster: Callable[..., ClusterSettings]) -> None:
    asked = cluster({"client-certificate-data": 123})

    assert access.finding(asked, Refused(401, "Unauthorized", "no")).kind.code == "credentials-expired"


@pytest.mark.parametrize(
    "proxy", [f"http://bob:{CANARY}/+tail@127.0.0.1:3128", f"http://bob:1/{CANARY}@127.0.0.1:3128", CANARY, "http://"]
)
def test_a_proxy_whose_address_cant_be_read_is_refused_and_not_repeated(
    proxy: str, cluster: Callable[..., ClusterSettings]
) -> None:
    said = why(cluster({}, **{"proxy-url": proxy}))

    assert "its proxy-url is no address" in said
    assert CANARY not in said


def runs(process: int) -> bool:
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_plugin_that_fails_says_why(cluster: Callable[..., ClusterSettings]) -> None:
    script = "echo more >&2; echo 'the session has expired, sign in again' >&2; exit 3"

    assert why(cluster(plugin(script))) == (
        "its credential plugin login failed with exit code 3 (the session has expired, sign in again)"
    )


def test_a_plugin_that_is_not_installed_is_named(cluster: Callable[..., ClusterSettings]) -> None:
    missing = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "no-such-plugin"}}

    assert why(cluster(missing)) == (
        "its credential plugin no-such-plugin can't be started (No such file or directory)"
    )


@pytest.mark.parametrize("answer", [CANARY, "[]", "{}", '{"status": 7}'])
def test_a_plugins_nonsense_is_not_repeated(cluster: Callable[..., ClusterSettings], answer: str) -> None:
    told = why(cluster(plugin(f"echo '{answer}'")))

    assert CANARY not in told
    assert told == "" or "something else than an ExecCredential" in told


def test_a_token_with_a_line_inside_is_refused_without_repeating_it(cluster: Callable[..., ClusterSettings]) -> None:
    assert why(cluster({"token": f"{CANARY}\n{CANARY}"})) == "its token isn't one line of plain characters"


def test_a_context_without_a_server_is_told(cluster: Callable[..., ClusterSettings]) -> None:
    assert "names no server for the context mgmt-cluster" in why(cluster({}, server=""))


def test_a_missing_token_file_is_named(cluster: Callable[..., ClusterSettings]) -> None:
    assert "its token file /nowhere/token can't be read" in why(cluster({"tokenFile": "/nowhere/token"}))


def test_a_proxys_password_is_not_repeated(cluster: Callable[..., ClusterSettings]) -> None:
    told = why(cluster({}, **{"proxy-url": f"http://user:{CANARY}@[::1]:9"}))

    assert told
    assert "no address" not in told
    assert CANARY not in told


def test_a_clients_certificate_is_loaded_once_as_threads_share_what_it_is_loaded_into(
    cluster: Callable[..., ClusterSettings],
) -> None:
    api: Any = connection.connected(cluster(anna(), server="https://127.0.0.1:9"))

    loaded_for_each_connection = ("ca_certs", "cert_file", "key_file")
    assert [api.rest_client.pool_manager.connection_pool_kw[key] for key in loaded_for_each_connection] == [None] * 3


def test_no_proxy_of_the_environment_leads_to_a_loopback_address(
    cluster: Callable[..., ClusterSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    reached = cluster({})
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")

    assert why(reached) == ""


def test_a_clients_key_lies_where_it_is_found_after_a_kill(cluster: Callable[..., ClusterSettings]) -> None:
    settings: Any = connection.connected(cluster(anna(), server="https://127.0.0.1:9")).configuration

    folder = Path(settings.key_file).parent
    assert folder.name.startswith(f"gloo-mesh-run-{os.getpid()}-")
    assert folder.parent == Path(tempfile.gettempdir())


def test_keys_that_are_no_keys_are_not_repeated(cluster: Callable[..., ClusterSettings]) -> None:
    user = {"client-certificate-data": CANARY, "client-key-data": CANARY + "!"}
    told = why(cluster(user, host="127.0.0.1:9"))

    assert CANARY not in told


def test_a_kubeconfig_that_went_is_told_with_its_path(cluster: Callable[..., ClusterSettings]) -> None:
    found = cluster({})
    Path("kubeconfig").unlink()

    assert "there is no such file" in why(found)


def test_a_plugins_token_is_used(cluster: Callable[..., ClusterSettings], server: Server) -> None:
    assert why(cluster(plugin(credential(token=CANARY)))) == ""
    assert server.headers["authorization"] == f"Bearer {CANARY}"


def test_a_plugin_gets_its_arguments_variables_and_the_cluster(
    cluster: Callable[..., ClusterSettings], server: Server
) -> None:
    script = f'echo "$1 $REGION $KUBERNETES_EXEC_INFO" > seen; {credential(token=CANARY)}'
    user = plugin(
        f"cd {Path.cwd()}; {script}",
        args=["get-token"],
        env=[{"name": "REGION", "value": "eu"}],
        provideClusterInfo=True,
    )

    assert why(cluster(user)) == ""
    argument, region, given = Path("seen").read_text().split(" ", 2)
    assert (argument, region) == ("get-token", "eu")
    assert json.loads(given)["spec"]["cluster"]["server"] == f"http://{server.host}"


def test_a_token_file_is_used_without_its_lines_end(cluster: Callable[..., ClusterSettings], server: Server) -> None:
    Path("token").write_text(f"{CANARY}\n")

    assert why(cluster({"tokenFile": str(Path("token").absolute())})) == ""
    assert server.headers["authorization"] == f"Bearer {CANARY}"


def test_who_a_user_acts_as_is_said_as_the_plugin_says_it(
    cluster: Callable[..., ClusterSettings], server: Server
) -> None:
    assert why(cluster({"token": CANARY, "as": "admin", "as-uid": "7", "as-groups": ["system:masters"]})) == ""

    said = {name: value for name, value in server.headers.items() if name.startswith("Impersonate-")}
    assert said == {"Impersonate-User": "admin", "Impersonate-Uid": "7", "Impersonate-Group": "system:masters"}


def test_a_proxy_is_used_with_its_password_whatever_no_proxy_says(
    cluster: Callable[..., ClusterSettings], server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("no_proxy", "*")

    assert why(cluster({}, host="api.example:6443", **{"proxy-url": f"http://user:p%40ss@{server.host}"})) == ""
    assert server.asked[0][0].startswith("http://api.example:6443/version")
    assert server.headers["proxy-authorization"] == "Basic " + base64.b64encode(b"user:p@ss").decode()


def test_the_environments_proxy_is_used_with_its_password_as_go_does_and_no_other(
    cluster: Callable[..., ClusterSettings], server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("all_proxy", "socks5://127.0.0.1:9")
    assert why(cluster({})) == ""
    server.asked.clear()

    monkeypatch.delenv("all_proxy", raising=False)
    monkeypatch.setenv("http_proxy", f"user:p%40ss@{server.host}")
    assert why(cluster({}, host="api.example:6443")) == ""
    assert server.headers["proxy-authorization"] == "Basic " + base64.b64encode(b"user:p@ss").decode()


@pytest.mark.parametrize(("anchor", "said"), [(ROOT, ""), (root(), "certificate verify failed")])
def test_an_api_server_is_trusted_by_the_certificate_that_go_would_trust_it_by(
    cluster: Callable[..., ClusterSettings], server: Server, monkeypatch: pytest.MonkeyPatch, anchor: Made, said: str
) -> None:
    def strict(*arguments: Any, **options: Any) -> ssl.SSLContext:
        context = plain(*arguments, **options)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    # As from Python 3.13 on.
    plain = ssl_.create_urllib3_context
    for module in (ssl_, urllib3.connection):
        monkeypatch.setattr(module, "create_urllib3_context", strict)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issued = ROOT.server("localhost")
    for name, pem in {"tls.crt": issued.pem, "tls.key": issued.key_pem}.items():
        Path(name).write_text(pem)
    serving.load_cert_chain("tls.crt", "tls.key")
    server.server.socket = serving.wrap_socket(server.server.socket, server_side=True)

    trusting = {"certificate-authority-data": base64.b64encode(anchor.pem.encode()).decode()}
    address = f"https://localhost:{server.server.server_port}"
    told = why(cluster({}, **trusting, server=address))

    assert said in told
    assert bool(told) is bool(said)


def test_a_variables_path_and_a_secrets_content_are_used(
    cluster: Callable[..., ClusterSettings], server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = cluster({"token": CANARY})
    content = Path("kubeconfig").read_text()
    monkeypatch.setenv("HERE", str(Path("kubeconfig").rename("elsewhere").absolute()))

    assert why(dataclasses.replace(found, kubeconfig=Source("env", "HERE"))) == ""
    os.unlink("elsewhere")
    assert why(dataclasses.replace(found, kubeconfig=Source("secret", "fleet"), kubeconfig_content=content)) == ""
    assert [headers["authorization"] for _, headers in server.asked] == [f"Bearer {CANARY}"] * 2
