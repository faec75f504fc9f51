"""A local conda channel with two packages: `python`, the interpreter that runs this, and `pip`, its pip."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import pip

VERSION = "{}.{}.{}".format(*sys.version_info)
XY = "{}.{}".format(*sys.version_info)
SITE_PACKAGES = f"lib/python{XY}/site-packages"


def fill_python(folder: Path) -> None:
    """The interpreter as a virtual environment is: links and a file that names its home."""
    home = Path(sys.base_prefix) / "bin"
    (folder / "bin").mkdir()
    (folder / "bin/python").symlink_to(home / f"python{XY}")
    for name in ("python3", f"python{XY}"):
        (folder / "bin" / name).symlink_to("python")
    (folder / "pyvenv.cfg").write_text(f"home = {home}\ninclude-system-site-packages = false\nversion = {VERSION}\n")
    (folder / SITE_PACKAGES).mkdir(parents=True)
    (folder / SITE_PACKAGES / "README.txt").write_text("an environment of the tests\n")


def fill_pip(folder: Path) -> None:
    """A copy of the running pip."""
    source = Path(pip.__file__).parent
    shutil.copytree(source, folder / SITE_PACKAGES / "pip", ignore=shutil.ignore_patterns("__pycache__"))
    (metadata,) = source.parent.glob("pip-*.dist-info")
    shutil.copytree(metadata, folder / SITE_PACKAGES / metadata.name)


def entry(folder: Path, path: Path) -> dict:
    """A file's line in paths.json."""
    content = b"" if path.is_symlink() else path.read_bytes()
    return {
        "_path": str(path.relative_to(folder)),
        "path_type": "softlink" if path.is_symlink() else "hardlink",
        "sha256": hashlib.sha256(content).hexdigest(),
        "size_in_bytes": len(content),
    }


def pack(channel: Path, name: str, version: str, depends: list[str], fill: Callable[[Path], None]) -> tuple[str, dict]:
    """Write one package; its file name and its record for repodata.json."""
    record = {"name": name, "version": version, "build": "0", "build_number": 0, "depends": depends}
    record |= {"subdir": "linux-64", "arch": "x86_64", "platform": "linux"}
    file = channel / "linux-64" / f"{name}-{version}-0.tar.bz2"
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        fill(folder)
        paths = [entry(folder, path) for path in sorted(folder.rglob("*")) if path.is_symlink() or path.is_file()]
        (folder / "info").mkdir()
        (folder / "info/index.json").write_text(json.dumps(record))
        (folder / "info/files").write_text("".join(f"{path['_path']}\n" for path in paths))
        (folder / "info/paths.json").write_text(json.dumps({"paths": paths, "paths_version": 1}))
        with tarfile.open(file, "w:bz2", compresslevel=1) as archive:
            for path in ["info", *(path["_path"] for path in paths)]:
                archive.add(folder / path, path)
    content = file.read_bytes()
    digests = {"md5": hashlib.md5(content).hexdigest(), "sha256": hashlib.sha256(content).hexdigest()}
    return file.name, record | digests | {"size": len(content)}


def main(channel: Path) -> None:
    """Write the channel into a new folder."""
    for subdir in ("linux-64", "noarch"):
        (channel / subdir).mkdir(parents=True)
    packages = dict(
        [
            pack(channel, "python", VERSION, [], fill_python),
            pack(channel, "pip", pip.__version__, [f"python {XY}.*"], fill_pip),
        ]
    )
    for subdir, own in (("linux-64", packages), ("noarch", {})):
        repodata = {"info": {"subdir": subdir}, "packages": own, "packages.conda": {}, "removed": []}
        (channel / subdir / "repodata.json").write_text(json.dumps(repodata | {"repodata_version": 1}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
