"""What `scripts/build-image-root` makes, run as a container without an engine.

The root is read-only. The gateway is the first process, and its user has no rights.
"""

import os
import shutil
import stat
import subprocess
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest

from support.clock import WATCHDOG_SECONDS
from support.container import lasting_port, make_data_folder, ran, require_namespaces, serving
from support.documentation import ROOT
from support.process import clean_environment

CATALOGUE = "id,name,network_name,hienergy_id\n7001,Alder Bikes,HiEnergy,\n"
# What Kubernetes injects beside a service that is named `contact-gateway`.
INJECTED = {
    "CONTACT_GATEWAY_SERVICE_HOST": "10.96.0.1",
    "CONTACT_GATEWAY_SERVICE_PORT": "8000",
    "CONTACT_GATEWAY_SERVICE_PORT_HTTP": "8000",
    "CONTACT_GATEWAY_PORT_8000_TCP": "tcp://10.96.0.1:8000",
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the root file system, built from what `.dockerignore` lets through."""
    require_namespaces()
    folder = tmp_path_factory.mktemp("image")
    source, built = folder / "source", folder / "root"
    source.mkdir()
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        name = line.removeprefix("!")
        if name == line:
            continue
        if (ROOT / name).is_dir():
            shutil.copytree(
                ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            shutil.copy(ROOT / name, source / name)
    # Both environments install the same version of uv.
    if (ROOT / ".uv").is_dir():
        (source / ".uv").symlink_to(ROOT / ".uv")
    completed = subprocess.run(
        (source / "scripts" / "build-image-root", built),
        cwd=folder,
        env=clean_environment(),
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert completed.returncode == 0, completed.stderr
    return built


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make_data_folder(tmp_path / "data")


def entries(root: Path) -> Mapping[str, tuple[int, int, int]]:
    """Return the mode, the size and the time of change of every file."""
    states = {str(path): path.lstat() for path in root.rglob("*")}
    return {
        name: (state.st_mode, state.st_size, state.st_mtime_ns) for name, state in states.items()
    }


def test_a_contact_outlives_the_container(root: Path, data: Path) -> None:
    before = entries(root)
    (data / "catalogue.csv").write_text(CATALOGUE, encoding="utf-8")
    port = str(lasting_port())
    environment = {**INJECTED, "CONTACT_GATEWAY_PORT": port}
    imported = ran(root, data, "contact-gateway", "advertisers", "import", "catalogue.csv")
    created_key = ran(
        root, data, *("contact-gateway", "keys", "create", "--role", "admin", "--label", "Team")
    )
    assert (imported.returncode, created_key.returncode) == (0, 0), imported.stderr
    contact = {"contact": {"advertiser_id": 7001, "email": "maya@example.com"}}
    with httpx.Client(
        base_url=f"http://127.0.0.1:{port}",
        headers={"X-Api-Key": created_key.stdout.strip()},
        timeout=WATCHDOG_SECONDS,
        trust_env=False,
    ) as client:
        with serving(root, data, environment=environment) as container:
            status = container.status()
            created = client.post("/api/v1/contacts", json=contact)
            alive, ready = container.run("healthcheck"), container.run("healthcheck", "--ready")
            wrong = container.run("healthcheck", "--url", "http://127.0.0.1:1")
            stopped = container.stop()
            log = container.log()
        environment["CONTACT_GATEWAY_METRICS"] = "true"
        # In several processes too, which share folders for their counts and their locks.
        with serving(root, data, "--workers", "2", environment=environment) as container:
            kept = client.get(created.headers["Location"])
            metrics = client.get("/metrics")
            stopped_again = container.stop()

    assert created.status_code == 201
    assert kept.json()["data"] == created.json()["data"]
    assert "contact_gateway_requests_total" in metrics.text
    assert (stopped, stopped_again) == (0, 0)
    assert (alive.returncode, alive.stdout) == (
        0,
        f"http://127.0.0.1:{port}/healthz answers 200.\n",
    )
    assert (ready.returncode, ready.stdout) == (0, f"http://127.0.0.1:{port}/readyz answers 200.\n")
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert '"level":"error"' not in log
    assert "Traceback" not in log
    assert entries(root) == before
    # SQLite leaves its log beside the database if the workers close it at the same moment.
    database = {f"contact-gateway.sqlite3{ending}" for ending in ("", "-shm", "-wal")}
    assert {path.name for path in data.iterdir()} <= {"catalogue.csv"} | database
    if os.geteuid() == 0:
        assert set(status["Uid"].split()) == {"65532"}
    assert status["NSpid"].split()[-1] == "1"
    assert (int(status["CapEff"], 16), int(status["CapPrm"], 16)) == (0, 0)
    assert status["NoNewPrivs"] == "1"


def test_names_certificates_and_the_extras_are_there(root: Path, data: Path) -> None:
    script = """
import opentelemetry.sdk, redis, socket, ssl
assert ssl.create_default_context().cert_store_stats()["x509_ca"] > 100
assert socket.getaddrinfo("127.0.0.1", 80)
print("all")
"""
    checked = ran(root, data, "/opt/contact-gateway/bin/python", "-c", script)

    assert (checked.returncode, checked.stdout) == (0, "all\n"), checked.stderr


def test_nothing_outside_of_data_and_tmp_can_be_written(root: Path, data: Path) -> None:
    script = """
import os
for top, _, _ in os.walk("/"):
    if not top.startswith(("/proc", "/dev/shm")):
        try:
            open(f"{top}/new", "x").close()
        except OSError:
            continue
        print(top)
"""
    tried = ran(root, data, "/opt/contact-gateway/bin/python", "-c", script)

    assert sorted(tried.stdout.split()) == ["/data", "/tmp"]  # noqa: S108 - the container's


def test_it_has_no_program_but_python_and_the_gateway(root: Path) -> None:
    programs = {
        path.relative_to(root).as_posix()
        for path in root.rglob("*")
        if path.is_file() and path.stat().st_mode & stat.S_IXUSR and ".so" not in path.name
    }
    set_id = [
        path for path in root.rglob("*") if path.lstat().st_mode & (stat.S_ISUID | stat.S_ISGID)
    ]

    named = {name for name in programs if "/lib/python3" not in name}
    assert {name.rstrip("0123456789.") for name in named} == {
        "opt/contact-gateway/bin/contact-gateway",
        "usr/local/bin/python",
    }
    assert set_id == []
