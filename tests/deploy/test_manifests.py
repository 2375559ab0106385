"""deploy/kubernetes.yaml and deploy/compose.yaml, with and without their options."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from compose_spec import PyCompose

from contact_gateway import __version__
from support.container import configuration
from support.deployment import DEPLOY, documents, seconds_of_stop, settings_of, with_options

KUBERNETES = DEPLOY / "kubernetes.yaml"
COMPOSE = DEPLOY / "compose.yaml"
IMAGE = f"contact-gateway:{__version__}"

# Any: documents of YAML, whose shape the assertions check.
Document = Mapping[str, Any]


@pytest.fixture(params=[False, True], ids=["as it is", "with its options"])
def options(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def objects(*, options: bool) -> Mapping[str, Document]:
    """Return the Kubernetes objects by their kind."""
    return {each["kind"]: each for each in documents(KUBERNETES, options=options)}


@pytest.fixture
def compose(*, options: bool) -> Document:
    (document,) = documents(COMPOSE, options=options)
    return dict(document)


class TestKubernetes:
    def test_every_object_is_valid(self, tmp_path: Path, *, options: bool) -> None:
        text = KUBERNETES.read_text(encoding="utf-8")
        file = tmp_path / "kubernetes.yaml"
        file.write_text(with_options(text) if options else text, encoding="utf-8")
        program = Path(sys.executable).with_name("kubernetes-validate")
        validated = subprocess.run(
            (program, "--strict", file), capture_output=True, encoding="utf-8", check=False
        )

        assert validated.returncode == 0, validated.stdout + validated.stderr

    def test_no_two_pods_use_the_database(self, objects: Mapping[str, Document]) -> None:
        deployment = objects["Deployment"]["spec"]

        assert deployment["replicas"] == 1
        assert deployment["strategy"] == {"type": "Recreate"}
        assert "PodDisruptionBudget" not in objects

    def test_every_name_leads_to_its_object(self, objects: Mapping[str, Document]) -> None:
        deployment = objects["Deployment"]["spec"]
        pod, labels = deployment["template"]["spec"], deployment["template"]["metadata"]["labels"]
        (container,) = pod["containers"]
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}

        assert deployment["selector"]["matchLabels"] == labels
        assert objects["Service"]["spec"]["selector"] == labels
        assert objects["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == labels
        assert {mount["name"] for mount in container["volumeMounts"]} == volumes.keys()
        claim = volumes["data"]["persistentVolumeClaim"]["claimName"]
        assert claim == objects["PersistentVolumeClaim"]["metadata"]["name"]
        assert ports == {"http": 8000}
        (port,) = objects["Service"]["spec"]["ports"]
        (rule,) = objects["NetworkPolicy"]["spec"]["ingress"]
        assert port["targetPort"] == rule["ports"][0]["port"] == "http"

    def test_the_pod_meets_the_restricted_standard(self, objects: Mapping[str, Document]) -> None:
        pod = objects["Deployment"]["spec"]["template"]["spec"]

        context = pod["securityContext"]
        assert context["runAsNonRoot"] is True
        assert f"{context['runAsUser']}:{context['runAsGroup']}" == configuration().user
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        for container in (*pod["initContainers"], *pod["containers"]):
            assert container["image"] == IMAGE
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"].keys() == {"requests", "limits"}

    def test_a_stop_is_not_cut_short(self, objects: Mapping[str, Document]) -> None:
        pod = objects["Deployment"]["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        settings = settings_of({each["name"]: each["value"] for each in container["env"]})

        assert settings.drain_seconds == 5
        assert pod["terminationGracePeriodSeconds"] > seconds_of_stop(settings)

    def test_only_readiness_depends_on_other_systems(self, objects: Mapping[str, Document]) -> None:
        (container,) = objects["Deployment"]["spec"]["template"]["spec"]["containers"]
        paths = {
            name: container[f"{name}Probe"]["httpGet"]["path"]
            for name in ("startup", "liveness", "readiness")
        }

        assert paths == {"startup": "/healthz", "liveness": "/healthz", "readiness": "/readyz"}

    def test_secrets_are_files(self, objects: Mapping[str, Document], *, options: bool) -> None:
        (container,) = objects["Deployment"]["spec"]["template"]["spec"]["containers"]
        (folder,) = (
            mount["mountPath"]
            for mount in container["volumeMounts"]
            if mount["name"] == "secrets" and mount["readOnly"]
        )
        files = [each["value"] for each in container["env"] if each["name"].endswith("_FILE")]

        assert files == ([f"{folder}/rate-limit-url"] if options else [])

    def test_migrations_have_the_settings_of_the_gateway(
        self, objects: Mapping[str, Document]
    ) -> None:
        pod = objects["Deployment"]["spec"]["template"]["spec"]
        (migration,), (gateway,) = pod["initContainers"], pod["containers"]

        assert migration["args"] == ["migrate"]
        assert migration["env"] == gateway["env"]
        assert migration["volumeMounts"] == gateway["volumeMounts"]

    def test_what_the_options_need_may_be_called(
        self, objects: Mapping[str, Document], *, options: bool
    ) -> None:
        rules = objects["NetworkPolicy"]["spec"].get("egress", ())
        ports = {port["port"] for rule in rules for port in rule["ports"]}

        # Names, HTTPS, and Redis's port.
        assert ports == ({53, 443, 6379} if options else set())


class TestCompose:
    def test_it_is_valid(self, *, options: bool) -> None:
        text = COMPOSE.read_text(encoding="utf-8")
        parsed = PyCompose.from_yaml(with_options(text) if options else text)

        assert parsed.name == "contact-gateway"

    def test_the_gateway_is_as_the_image_says(self, compose: Document) -> None:
        gateway = compose["services"]["gateway"]

        assert gateway["image"] == IMAGE
        assert (COMPOSE.parent / gateway["build"]["context"]).samefile(DEPLOY.parent)
        assert gateway["build"]["dockerfile"] == "deploy/Containerfile"
        assert (gateway["read_only"], gateway["cap_drop"]) == (True, ["ALL"])
        assert gateway["volumes"] == [f"data:{configuration().folder}"]
        assert [each.partition(":")[0] for each in gateway["tmpfs"]] == ["/tmp"]  # noqa: S108
        assert gateway.keys().isdisjoint({"user", "entrypoint", "command", "healthcheck"})

    def test_a_stop_is_not_cut_short(self, compose: Document) -> None:
        gateway = compose["services"]["gateway"]
        settings = settings_of(gateway["environment"])

        assert settings.drain_seconds == 5
        assert int(gateway["stop_grace_period"].removesuffix("s")) > seconds_of_stop(settings)

    def test_every_name_is_defined(self, compose: Document) -> None:
        for service in compose["services"].values():
            volumes = {each.partition(":")[0] for each in service["volumes"]}
            secrets = set(service.get("secrets", ()))

            assert volumes <= compose["volumes"].keys()
            assert secrets <= compose.get("secrets", {}).keys()

    def test_postgresql_is_an_option_only(self, compose: Document, *, options: bool) -> None:
        gateway = compose["services"]["gateway"]

        assert ("postgresql" in compose["services"]) is options
        assert ("CONTACT_GATEWAY_DATABASE_URL_FILE" in gateway["environment"]) is options
