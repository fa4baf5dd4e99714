"""Makes the Python stubs from the protos when the distribution is installed, so none is committed.

Beside them it writes `realco/descriptors.binpb`: every proto with its comments, which stubs leave out; the gateway
derives OpenAPI from it. Run as a script it writes the descriptor image that `buf lint` and `buf breaking` read:
`python hatch_build.py image IMAGE.binpb [PROTO_ROOT]`.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from google.api import annotations_pb2
from google.protobuf import (
    descriptor_pb2,
    duration_pb2,
    field_mask_pb2,
    timestamp_pb2,
)
from grpc_tools import protoc
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

HERE = Path(__file__).parent


class StubsBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Hatch calls this before it packs a wheel or links an editable install."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        generate(HERE)


def generate(root: Path) -> None:
    """Writes `*_pb2.py`, `*_pb2.pyi`, `*_pb2_grpc.py`, `*_pb2_grpc.pyi` and `py.typed` beside the protos."""
    protos = sorted(str(path.relative_to(root)) for path in root.glob("realco/**/*.proto"))
    services = [path for path in protos if "rpc " in (root / path).read_text()]
    with tempfile.TemporaryDirectory() as scratch:
        validate = write_validate_descriptor(Path(scratch))
        _protoc(validate, f"--python_out={root}", f"--pyi_out={root}", "buf/validate/validate.proto")
        _protoc(validate, f"-I{root}", f"--python_out={root}", f"--pyi_out={root}", *protos)
        _protoc(
            validate,
            f"-I{root}",
            f"--plugin=protoc-gen-mypy_grpc={_plugin('protoc-gen-mypy_grpc')}",
            f"--grpc_python_out={root}",
            f"--mypy_grpc_out={root}",
            *services,
        )
    remove_orphans(root, protos, services)
    # `realco` and `buf` are namespaces that others may have packages in, so each package of ours says it is typed.
    for package in {stub.parent for area in ("realco", "buf") for stub in (root / area).rglob("*_pb2.pyi")}:
        (package / "py.typed").touch()
    image(root / "realco" / "descriptors.binpb", root)


def remove_orphans(root: Path, protos: list[str], services: list[str]) -> None:
    """Removes the stubs of a proto that moved or went: whoever imported them would have its messages twice."""
    made = [path.replace(".proto", f"_pb2{end}") for path in protos for end in (".py", ".pyi")]
    made += [path.replace(".proto", f"_pb2_grpc{end}") for path in services for end in (".py", ".pyi")]
    for stub in root.glob("realco/**/*_pb2*.py*"):
        if "__pycache__" not in stub.parts and str(stub.relative_to(root)) not in made:
            stub.unlink()


def image(target: Path, root: Path) -> None:
    """Writes one FileDescriptorSet of all protos with their imports and comments."""
    protos = sorted(str(path.relative_to(root)) for path in root.glob("realco/**/*.proto"))
    with tempfile.TemporaryDirectory() as scratch:
        validate = write_validate_descriptor(Path(scratch))
        _protoc(
            validate,
            f"-I{root}",
            "--include_imports",
            "--include_source_info",
            f"--descriptor_set_out={target}",
            *protos,
        )


def write_validate_descriptor(directory: Path) -> Path:
    """Takes `buf/validate/validate.proto` out of protovalidate, whose wheel holds only its descriptor."""
    from protovalidate._gen.buf.validate import validate_pb  # private: protovalidate is pinned, CI builds this

    files = descriptor_pb2.FileDescriptorSet()
    for module in (descriptor_pb2, duration_pb2, timestamp_pb2, field_mask_pb2):
        module.DESCRIPTOR.CopyToProto(files.file.add())
    files.file.append(descriptor_pb2.FileDescriptorProto.FromString(validate_pb._DESC.proto.to_binary()))
    target = directory / "validate.binpb"
    target.write_bytes(files.SerializeToString())
    return target


def _plugin(name: str) -> str:
    """Beside the interpreter, or where pip puts the tools of an isolated build: on the PATH."""
    found = shutil.which(name, path=os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", "")]))
    if found is None:
        raise RuntimeError(f"{name} is not installed; it comes with mypy-protobuf")
    return found


def _protoc(validate: Path, *arguments: str) -> None:
    # googleapis-common-protos ships its .proto files; in an isolated build it lies apart from the interpreter's own.
    google = Path(annotations_pb2.__file__).parents[2]
    well_known = Path(protoc.__file__).parent / "_proto"
    command = ["protoc", f"-I{google}", f"-I{well_known}", f"--descriptor_set_in={validate}", *arguments]
    if protoc.main(command) != 0:
        raise RuntimeError("protoc refused the protos; its message is above")


if __name__ == "__main__":
    _, _, target, *root = sys.argv
    image(Path(target), Path(root[0]) if root else HERE)
