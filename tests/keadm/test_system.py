"""The usual places and ports, as root: in namespaces where they are the test's own."""

from __future__ import annotations

import os
import sys

from tests.keadm.machine import CHECKOUT, Done, MachineCase, run
from tests.requirements import requires

SCRIPT = """
scratch=$1
ip link set lo up
cp -a /etc "$scratch/etc"; mount --bind "$scratch/etc" /etc
mkdir "$scratch/lib" "$scratch/log"
mount --bind "$scratch/lib" /var/lib; mount --bind "$scratch/log" /var/log
files() { find /etc /var/lib /var/log | sort; }
files >"$scratch/before"
keadm() { "$PYTHON" -m kubeedge_tx.keadm.main "$@"; }
keadm init --advertise-address 127.0.0.1 --no-service
token=$(keadm gettoken)
keadm join --cloudcore-ipport 127.0.0.1:10000 --token "$token" --edgenode-name edge-1 \\
  --runtimetype process --no-service
kubectl --kubeconfig /var/lib/kubeedge/cloudcore/admin.kubeconfig get nodes
files >"$scratch/between"
keadm check
"$PYTHON" -m tests.keadm.interrupting reset edge --force
files >"$scratch/after-edge"
touch /etc/kubeedge/config/.cloudcore.yaml.new
"$PYTHON" -m tests.keadm.interrupting reset cloud --force
files >"$scratch/after"
"""


@requires("root")
@requires("kubectl")
class UsualPlacesTests(MachineCase):
    def test_fresh_machine(self) -> None:
        """init, gettoken, join, kubectl, reset with nothing chosen: all where upstream has it.

        The reset is interrupted at each of its steps, and leaves nothing all the same.
        """
        done = self.keadm_script(SCRIPT)
        self.assertEqual(done.status, 0, done.output)
        self.assertRegex(done.output, r"edge-1 +Ready +agent,edge")
        lists = {
            name: (self.root / name).read_text().splitlines()
            for name in ("before", "between", "after-edge", "after")
        }
        for path in (
            "/etc/kubeedge/config/cloudcore.yaml",
            "/etc/kubeedge/config/edgecore.yaml",
            "/etc/kubeedge/ca/rootCA.crt",
            "/etc/kubeedge/certs/server.key",
            "/var/lib/kubeedge/edgecore.db",
            "/var/lib/kubeedge/cloudcore/apiserver.db",
            "/var/log/kubeedge/edgecore.log",
        ):
            self.assertIn(path, lists["between"])
        self.assertIn("/var/lib/kubeedge/cloudcore/apiserver.db", lists["after-edge"])
        self.assertNotIn("/var/lib/kubeedge/edgecore.db", lists["after-edge"])
        self.assertEqual(lists["after"], lists["before"])

    def keadm_script(self, script: str) -> Done:
        options = "-mn" if os.geteuid() == 0 else "-rmn"
        return run(
            ["unshare", options, "bash", "-euc", script, "keadm", str(self.root)],
            cwd=CHECKOUT,
            env={"PYTHON": sys.executable},
        )
