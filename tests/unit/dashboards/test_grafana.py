"""The adapter against the fake server, and beside its in-memory twin."""

import json
import socket

import pytest

from dashboards import rules
from dashboards.grafana import (
    GrafanaApi,
    GrafanaConfig,
    GrafanaRejected,
    GrafanaUnavailable,
    MemoryGrafana,
)
from dashboards.publisher import resources
from dashboards.query import DATASOURCE_UID, PLUGIN
from ingest.core.errors import Unavailable, UsageError
from tests.support.fake_grafana import PASSWORD, TOKEN, USER, serve

CONFIG = GrafanaConfig(token=TOKEN)


@pytest.fixture
def fake():
    with serve() as grafana:
        yield grafana


@pytest.fixture
def api(fake):
    return GrafanaApi(GrafanaConfig(url=fake.url, token=TOKEN))


@pytest.fixture(params=["memory", "http"])
def grafana(request):
    """Twin and adapter: whatever a test asks of one it asks of the other."""
    if request.param == "memory":
        yield MemoryGrafana()
    else:
        with serve() as fake:
            yield GrafanaApi(GrafanaConfig(url=fake.url, token=TOKEN))


class TestBothAlike:
    def test_what_is_saved_is_found(self, grafana):
        for resource in resources(CONFIG):
            assert grafana.find(resource.kind, resource.uid) is None
            grafana.save(resource.kind, resource.uid, resource.body, exists=False)
            found = grafana.find(resource.kind, resource.uid)
            assert set(found) >= set(resource.body)

    def test_saving_again_replaces(self, grafana):
        for resource in resources(CONFIG):
            grafana.save(resource.kind, resource.uid, resource.body, exists=False)
        first = {resource.kind: resource for resource in reversed(resources(CONFIG))}
        folder, source = first["folder"], first["data source"]
        board, group = first["dashboard"], first["rule group"]
        for resource, path, value in [
            (folder, ("title",), "Agents"),
            (source, ("name",), "Other"),
            (board, ("dashboard", "title"), "Other"),
            (group, ("interval",), 120),
        ]:
            body = json.loads(json.dumps(resource.body))
            *path, last = path
            at = body
            for step in path:
                at = at[step]
            at[last] = value
            grafana.save(resource.kind, resource.uid, body, exists=True)
            found = grafana.find(resource.kind, resource.uid)
            for step in path:
                found = found[step]
            assert found[last] == value

    def test_a_password_is_never_found(self, grafana):
        for resource in resources(CONFIG)[:2]:
            body = resource.body
            if resource.kind == "data source":
                body = {**body, "secureJsonData": {"password": "hidden"}}
            grafana.save(resource.kind, resource.uid, body, exists=False)
        assert "hidden" not in json.dumps(grafana.find("data source", DATASOURCE_UID))

    def test_the_data_source_is_checked(self, grafana):
        with pytest.raises(GrafanaUnavailable):
            grafana.check_data_source(DATASOURCE_UID)
        for resource in resources(CONFIG)[:2]:
            grafana.save(resource.kind, resource.uid, resource.body, exists=False)
        assert grafana.check_data_source(DATASOURCE_UID) == "Data source is working"

    def test_version_and_plugins(self, grafana):
        assert grafana.version() == "13.0.0"
        assert not grafana.plugin_missing(PLUGIN)


class TestRequests:
    def test_a_user_and_password_do(self, fake):
        api = GrafanaApi(GrafanaConfig(url=fake.url, user=USER, password=PASSWORD))
        assert api.find("folder", "driftline") is None

    def test_a_path_before_the_api(self):
        with serve(prefix="/grafana") as fake:
            assert fake.url.endswith("/grafana")
            assert GrafanaApi(GrafanaConfig(url=fake.url, token=TOKEN)).version() == "13.0.0"
            assert GrafanaApi(GrafanaConfig(url=fake.url + "/", token=TOKEN)).version() == "13.0.0"

    def test_names_itself(self, fake, api):
        api.version()
        assert fake.requests[0].headers["User-Agent"] == "driftline"

    def test_uids_are_escaped(self, fake, api):
        assert api.find("folder", "../datasources?a=b#c") is None
        assert fake.requests[0].path == "/api/folders/..%2Fdatasources%3Fa%3Db%23c"

    def test_an_empty_answer_is_none(self, fake, api):
        """Deleting answers 204 without a body, on which the client library would fail."""
        for resource in resources(CONFIG):
            api.save(resource.kind, resource.uid, resource.body, exists=False)
        place = "/v1/provisioning/folder/driftline/rule-groups/findings"
        assert api._call("DELETE", place) is None
        assert api.find("rule group", "driftline/findings") is None

    def test_a_missing_version_is_empty(self):
        with serve(version=None) as fake:
            assert GrafanaApi(GrafanaConfig(url=fake.url, token=TOKEN)).version() == ""

    def test_rules_are_provisioned(self, fake, api):
        """They can be changed here only, like the dashboards, which are not editable."""
        for resource in resources(CONFIG):
            api.save(resource.kind, resource.uid, resource.body, exists=False)
        kept = fake.groups["driftline", "deadman"]["rules"][0]
        assert kept["provenance"] == "api"


class TestFaults:
    def test_a_wrong_token_is_named(self, fake):
        api = GrafanaApi(GrafanaConfig(url=fake.url, token="glsa_wrong"))
        with pytest.raises(GrafanaRejected, match="does not accept the token") as caught:
            api.find("folder", "driftline")
        assert caught.value.status == 401
        assert "glsa_wrong" not in str(caught.value)
        with pytest.raises(GrafanaRejected, match="does not accept the token"):
            api.plugin_missing(PLUGIN)

    def test_nobody_there(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            port = taken.getsockname()[1]
        api = GrafanaApi(GrafanaConfig(url=f"http://127.0.0.1:{port}", token=TOKEN))
        with pytest.raises(Unavailable, match=rf"127.0.0.1:{port} does not answer"):
            api.version()

    @pytest.mark.parametrize("status", [429, 502, 503, 504])
    def test_a_passing_fault_is_tried_again(self, fake, api, status):
        fake.faults = [("GET", status, b"")] * 2
        assert api.find("folder", "driftline") is None
        assert len(fake.requests) == 3

    def test_a_lasting_fault_is_given_up(self, fake, api):
        fake.faults = [("GET", 503, b'{"message": "starting"}')] * 9
        with pytest.raises(GrafanaUnavailable, match="503 starting"):
            api.find("folder", "driftline")
        assert len(fake.requests) == 4

    def test_a_post_is_not_repeated(self, fake, api):
        fake.faults = [("POST", 503, b"")] * 2
        folder = resources(CONFIG)[0]
        with pytest.raises(GrafanaUnavailable):
            api.save(folder.kind, folder.uid, folder.body, exists=False)
        assert len(fake.requests) == 1

    @pytest.mark.parametrize(
        ("status", "raw", "told"),
        [
            (200, b"<html>login</html>", "not like a Grafana"),
            (200, b"[1]", "not like a Grafana"),
            (404, b"nothing here", "404"),
            (302, b"https://elsewhere.example/", "redirects to https://elsewhere.example/"),
            (400, b"null", "400"),
            (500, b"null", "500"),
        ],
    )
    def test_something_else_that_answers(self, fake, api, status, raw, told):
        fake.faults = [("GET", status, raw)]
        with pytest.raises((GrafanaRejected, GrafanaUnavailable), match=told):
            api.version()

    def test_a_broken_database_of_grafana(self, fake, api):
        fake.faults = [("GET", 200, b'{"database": "failing"}')]
        with pytest.raises(GrafanaUnavailable, match="database"):
            api.version()

    def test_a_refusal_says_what_grafana_said(self, fake, api):
        group = rules.rule_groups()[0]
        with pytest.raises(GrafanaRejected, match="400 folder does not exist"):
            api.save("rule group", "driftline/findings", group, exists=False)

    def test_a_message_is_one_short_line(self, fake, api):
        fake.faults = [("GET", 400, json.dumps({"message": "a\n\n b" + "x" * 999}).encode())]
        with pytest.raises(GrafanaRejected) as caught:
            api.find("folder", "driftline")
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 400

    @pytest.mark.parametrize("url", ["grafana:3000", "ftp://grafana", "http://", ""])
    def test_an_address_that_is_none(self, url):
        with pytest.raises(UsageError, match="must look like https://"):
            GrafanaApi(GrafanaConfig(url=url, token=TOKEN))

    def test_no_credentials(self):
        with pytest.raises(UsageError, match="needs a Grafana token"):
            GrafanaApi(GrafanaConfig())


def test_secrets_are_not_shown():
    config = GrafanaConfig(token="s3cret", password="s3cret")
    assert "s3cret" not in repr(config)
