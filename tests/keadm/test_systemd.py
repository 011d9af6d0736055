"""A machine of its own with the real systemd: this machine's files, and what is written apart."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.keadm.machine import MachineCase
from tests.requirements import requires

UNSHARE: Final = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
"""Mounts and processes are gone with the first of them."""

BOOT: Final = """
scratch=$1
mount -t tmpfs -o mode=755 none "$scratch"
mkdir "$scratch/upper" "$scratch/work" "$scratch/root" "$scratch/story"
mount -t overlay -o "lowerdir=/,upperdir=$scratch/upper,workdir=$scratch/work" none "$scratch/root"
cd "$scratch/root"
: >etc/fstab
rm -rf etc/kubeedge var/lib/kubeedge var/log/kubeedge
cat >etc/systemd/system/story.target <<END
[Unit]
Requires=basic.target story.service
END
cat >etc/systemd/system/story.service <<END
[Unit]
After=basic.target
SuccessAction=exit
FailureAction=exit
[Service]
Type=oneshot
ExecStart=/bin/bash -eu /story/story
StandardOutput=file:/story/output
StandardError=inherit
END
printf '%s\\n' "$STORY" >"$scratch/story/story"
status=0
systemd-nspawn --quiet --register=no --keep-unit --private-network --console=pipe \\
  --directory="$scratch/root" --bind="$scratch/story:/story" \\
  --bind-ro="$CHECKOUT" --bind-ro="$PREFIX" \\
  --boot systemd.unit=story.target </dev/null >"$scratch/console" 2>&1 || status=$?
cat "$scratch/story/output" || tail -n 30 "$scratch/console"
exit "$status"
"""
"""This machine's files with a layer of memory above them, booted into one script."""

STORY: Final = """
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
keadm() { $KEADM "$@" 2>&1; }
files() { find /etc /var/lib /var/log | grep -Ev '^/var/(lib/systemd|log/journal)' | sort; }
unit() { systemctl show --value --property="$2" "$1"; }
until_shown() { for _ in $(seq 300); do "$@" && return; sleep 0.1; done; echo "not: $*"; return 1; }
restarted() { [ "$(unit "$1" NRestarts) $(unit "$1" ActiveState)" = "$2 active" ]; }
quickly() {
  local folder=/run/systemd/system/$1.service.d
  mkdir -p "$folder"
  printf '[Service]\\nWatchdogSec=2\\nRestartSec=1\\n' >"$folder/quick.conf"
}
kubectl() { command kubectl --kubeconfig /var/lib/kubeedge/cloudcore/admin.kubeconfig "$@"; }

echo "== a cloud that cannot start"
files >/story/before
if keadm init --set modules.cloudHub.tlsCAFile=/dev/null; then exit 1; fi
keadm reset --force

echo "== init and join"
quickly cloudcore; quickly edgecore
keadm init --advertise-address 127.0.0.1
keadm join --cloudcore-ipport 127.0.0.1:10000 --token "$(keadm gettoken)" \\
  --edgenode-name edge-1 --runtimetype process
kubectl get nodes
for each in cloudcore edgecore; do
  echo "$each: $(unit $each Type) $(unit $each ActiveState) $(unit $each UnitFileState)"
  echo "$each: $(unit $each StatusText)"
done

echo "== a pod outlives its agent"
kubectl apply -f - <<END
{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "sleeper", "namespace": "default"},
 "spec": {"nodeName": "edge-1", "containers": [
   {"name": "main", "image": "none", "command": ["sleep", "98765"]}]}}
END
until_shown pgrep -x -f 'sleep 98765'
pod=$(pgrep -x -f 'sleep 98765')
kill -STOP "$(unit edgecore MainPID)"
until_shown restarted edgecore 1
journalctl -u edgecore -o cat --no-pager | grep 'Watchdog timeout'
kill -KILL "$(unit edgecore MainPID)"
until_shown restarted edgecore 2
kill -KILL "$(unit cloudcore MainPID)"
until_shown restarted cloudcore 1
systemctl reload cloudcore edgecore
keadm join --cloudcore-ipport 127.0.0.1:10000 --edgenode-name edge-1 --runtimetype process
[ "$(pgrep -x -f 'sleep 98765')" = "$pod" ] && echo "the pod is process $pod still"

echo "== upgrade"
mkdir -p /opt/bad/bin
cat >/opt/bad/bin/python <<END
#!/bin/sh
case "\\$*" in *VERSION*) echo 9.9.9;; *) exec ${KEADM%% *} "\\$@";; esac
END
printf '#!/bin/sh\\necho it has no luck; exit 1\\n' >/opt/bad/bin/twistd
chmod +x /opt/bad/bin/*
if keadm upgrade edge --venv /opt/bad; then exit 1; fi
keadm rollback edge
[ "$(pgrep -x -f 'sleep 98765')" = "$pod" ] && echo "the pod is process $pod still"

echo "== reset"
keadm reset --force
if pgrep -x -f 'sleep 98765'; then exit 1; fi
files >/story/after
diff /story/before /story/after && echo "nothing is left"
systemctl list-units --all --no-legend 'cloudcore*' 'edgecore*'
"""


@requires("root")
@requires("kubectl")
@requires("systemd-nspawn")
class SystemdTests(MachineCase):
    def test_life(self) -> None:
        """The real systemd: readiness, watchdog, restarts, upgrade and reset; pods stay alive."""
        done = subprocess.run(
            [*UNSHARE, "bash", "-euc", BOOT, "boot", str(self.root)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=300,
            env={
                "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
                "STORY": f"KEADM='{sys.executable} -m kubeedge_tx.keadm.main'\n{STORY}",
                "CHECKOUT": str(Path(__file__).parent.parent.parent),
                "PREFIX": sys.prefix,
            },
        )
        self.assertEqual(done.returncode, 0, done.stdout)
        for said in (
            "Error: cloudcore has ended: /var/lib/kubeedge/cloudcore/ca/rootCA.key is missing",
            "systemd goes on starting it; its log: journalctl -u cloudcore.service -b",
            "node edge-1 is Ready",
            "cloudcore: notify active enabled",
            "edgecore: notify active enabled",
            "edgecore: ready: metrics 9092, mqtt 1884",
            "edgecore.service: Watchdog timeout (limit 2s)!",
            "v9.9.9 does not work: edgecore has ended: it has no luck",
        ):
            self.assertIn(said, done.stdout)
        self.assertEqual(len(re.findall(r"the pod is process \d+ still", done.stdout)), 2)
        self.assertTrue(done.stdout.endswith("nothing is left\n"), done.stdout)
