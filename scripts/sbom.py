"""Write the SBOM of a release beside its files, out of uv's export of the lock file.

uv exports CycloneDX 1.5 with the id and the time of the run. This writes CycloneDX 1.6 with the
licence and the files of the release, and the same bytes for the same commit.
"""

import hashlib
import json
import os
import sys
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator


def completed(document: dict[str, Any], files: list[Path], built_at: datetime) -> dict[str, Any]:
    """Return uv's export as the SBOM of these files."""
    metadata = document["metadata"]
    component = metadata["component"]
    component |= {
        "type": "application",
        "purl": f"pkg:pypi/{component['name']}@{component['version']}",
        "licenses": [{"license": {"id": "MIT"}}],
        "externalReferences": [
            {
                "type": "distribution",
                "url": file.name,
                "hashes": [
                    {"alg": "SHA-256", "content": hashlib.sha256(file.read_bytes()).hexdigest()}
                ],
            }
            for file in files
        ],
    }
    metadata["timestamp"] = built_at.isoformat()
    document |= {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "specVersion": "1.6",
    }
    del document["serialNumber"]
    content = json.dumps(document, sort_keys=True)
    return document | {"serialNumber": uuid.uuid5(uuid.NAMESPACE_OID, content).urn}


def main() -> None:
    """Read uv's export from standard input; the argument is the folder with the release's files.

    SOURCE_DATE_EPOCH is the time of the release.
    """
    folder = Path(sys.argv[1])
    document = completed(
        json.load(sys.stdin),
        sorted(folder.glob("contact_gateway-*")),
        datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), UTC),
    )
    text = json.dumps(document, indent=2) + "\n"
    error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    if error is not None:
        sys.exit(f"The SBOM is not valid CycloneDX 1.6: {error}")
    version = document["metadata"]["component"]["version"]
    (folder / f"contact-gateway-{version}.cdx.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
