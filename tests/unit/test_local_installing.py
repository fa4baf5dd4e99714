"""Who installed the services alone, without the extra `local`, is told what a local instance needs."""

from __future__ import annotations

import subprocess
import sys


def test_without_the_extra_an_import_says_what_to_install() -> None:
    code = "import sys; sys.modules['psutil'] = None; import deploy.local.instance"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "A local instance needs psutil: run `make setup`, or install realco-finance[local]." in done.stderr


def test_the_topology_and_the_provisioner_need_no_extra() -> None:
    blocked = "; ".join(f"sys.modules[{name!r}] = None" for name in ("bcrypt", "psutil", "rich"))
    code = f"import sys; {blocked}; import deploy.topology, deploy.provision"
    subprocess.run([sys.executable, "-c", code], check=True)
