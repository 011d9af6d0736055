from __future__ import annotations

import shutil
import sqlite3
from typing import Any

from tests.system.roles import SystemCase, config_map, pod, unique, until

SLEEP = ("sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1; done")


SETTINGS = "default/configmap/settings"


class LostStoreTests(SystemCase):
    """An edge whose disk was replaced gets back what it had confirmed."""

    async def test_lost_store(self) -> None:
        """Started with an empty store, and with an old one, it has what the cluster has."""
        node = unique("edge")
        cloud, edge, api = await self.pair(node=node)
        mounted: Any = {
            "container": {"volumeMounts": [{"name": "conf", "mountPath": "/etc/conf"}]},
            "volumes": [{"name": "conf", "configMap": {"name": "settings"}}],
        }
        await api.create(config_map("settings", text="one"))
        await api.create(pod("old", *SLEEP))
        await self.pod_ready(api, "old", cloud, edge)
        await edge.process.stop()
        (store,) = edge.data_dir.glob("**/edgecore.db")
        backup = store.with_suffix(".backup")
        shutil.copy(store, backup)

        await edge.run()
        await api.create(pod("web", *SLEEP, **mounted))
        await self.pod_ready(api, "web", cloud, edge)
        await api.delete("/api/v1/namespaces/default/pods/old", grace=0)
        await until("the old pod to end", lambda: self.pods(edge) == {"web"}, cloud, edge)
        await until("the confirmed versions to be recorded", lambda: self.recorded(api), cloud)

        for copy in (None, backup):
            await edge.process.kill()
            for file in store.parent.glob(f"{store.name}*"):
                file.unlink()
            if copy is not None:
                shutil.copy(copy, store)
            await edge.run()
            await self.node_ready(api, node, cloud, edge)
            await until(
                "the edge to run what the cluster wants",
                lambda: self.pods(edge) == {"web"} and SETTINGS in self.keys(edge),
                cloud,
                edge,
            )
            await self.pod_ready(api, "web", cloud, edge)

    async def recorded(self, api: Any) -> bool:
        """Whether the cluster knows that the edge has the pod."""
        found = await api.items("/apis/reliablesyncs.kubeedge.io/v1alpha1/objectsyncs")
        return {each["spec"]["objectName"] for each in found} >= {"web", "settings"}

    def pods(self, edge: Any) -> set[str]:
        """The names of the pods in the edge's store."""
        found = (key.split("/") for key in self.keys(edge))
        return {name for _, kind, name in found if kind == "pod"}

    def keys(self, edge: Any) -> set[str]:
        """The keys of the pods and ConfigMaps in the edge's store."""
        (file,) = edge.data_dir.glob("**/edgecore.db")
        with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as connection:
            found = connection.execute(
                "SELECT key FROM meta WHERE type IN ('pod', 'configmap')"
            ).fetchall()
        return {str(row[0]) for row in found}
