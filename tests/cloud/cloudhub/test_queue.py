from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.beehive.message import Header, Message, Route, raw
from kubeedge_tx.cloud.cloudhub.queue import (
    NodeMessageQueue,
    Outcome,
    QueueLimits,
    needs_ack,
)


def configmap(uid: str, version: str, *, name: str = "app", deleting: bool = False) -> Any:
    meta = {"name": name, "namespace": "default", "uid": uid, "resourceVersion": version}
    if deleting:
        meta["deletionTimestamp"] = "2026-11-24T08:00:00Z"
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"k": version}}


class Case(SynchronousTestCase):
    """A queue, and messages for it."""

    def setUp(self) -> None:
        self.recorded: dict[tuple[str, str], str] = {}
        self.queue = NodeMessageQueue("edge-1", lambda ns, uid: self.recorded.get((ns, uid)))
        self.serial = 0

    def message(
        self,
        content: Any,
        *,
        operation: str = "update",
        resource: str = "default/configmap/app",
        version: str | None = None,
        source: str = "edgecontroller",
        group: str = "resource",
        parent: str = "",
    ) -> Message:
        self.serial += 1
        if version is None:
            version = content["metadata"].get("resourceVersion", "")
        return Message(
            Header(
                msg_id=f"m{self.serial}", timestamp=1, resource_version=version, parent_id=parent
            ),
            Route(source, group, operation, resource),
            raw(content),
        )

    def push(self, content: Any, now: float = 0.0, **options: Any) -> Outcome:
        return self.queue.push(self.message(content, **options), now)

    def sent(self, now: float = 0.0) -> list[tuple[str, str, str]]:
        """What goes out: operation, uid, version."""
        return [
            (order.message.route.operation, order.uid, order.version)
            for order in self.queue.to_send(now, 100)
        ]

    def ack_all(self) -> None:
        """Acknowledge what is in flight, and record it as CloudHub does."""
        for order in tuple(self.queue.window):
            acked = self.queue.acked(order.message.header.msg_id)
            if acked is None:
                continue
            if acked.is_delete:
                self.recorded.pop((acked.namespace, acked.uid), None)
            else:
                self.recorded[acked.namespace, acked.uid] = acked.version

    def deliver_all(self) -> list[tuple[str, str, str]]:
        out = []
        while sent := self.sent():
            out += sent
            self.ack_all()
        return out


class EnqueueTests(Case):
    """Which message is worth sending."""

    def test_newer_only(self) -> None:
        """An older version than the queued one, or than the confirmed one, is not sent."""
        self.assertIs(self.push(configmap("u", "10")), Outcome.QUEUED)
        self.assertIs(self.push(configmap("u", "9")), Outcome.STALE)
        self.assertIs(self.push(configmap("u", "10")), Outcome.STALE)
        self.assertIs(self.push(configmap("u", "18446744073709551615")), Outcome.QUEUED)
        self.deliver_all()
        self.assertIs(self.push(configmap("u", "11")), Outcome.STALE)

    def test_versions_are_numbers(self) -> None:
        """Versions are compared as numbers: 100 is newer than 99."""
        self.recorded["default", "u"] = "99"
        self.assertIs(self.push(configmap("u", "100")), Outcome.QUEUED)

    def test_opaque_version(self) -> None:
        """A version that is no number counts as newer instead of breaking the session."""
        self.recorded["default", "u"] = "99"
        self.assertIs(self.push(configmap("u", "v2-abc")), Outcome.QUEUED)

    def test_empty_record(self) -> None:
        """A record without a version, as a crash leaves it, does not keep the object away."""
        self.recorded["default", "u"] = ""
        self.assertIs(self.push(configmap("u", "1")), Outcome.QUEUED)

    def test_invalid(self) -> None:
        """No version, another group, or no object: never acknowledged, so never queued."""
        self.assertIs(self.push(configmap("u", "")), Outcome.INVALID)
        self.assertIs(self.push(configmap("u", "1"), group="func"), Outcome.INVALID)
        self.assertIs(self.push("text", version="1"), Outcome.INVALID)
        self.assertIs(self.push({"metadata": None}, version="1"), Outcome.INVALID)
        self.assertIs(self.push(configmap("u", "1"), resource="app"), Outcome.INVALID)

    def test_delete_wins(self) -> None:
        """After a delete nothing older follows; a delete needs no version."""
        self.push(configmap("u", "10"))
        bare = {"metadata": {"name": "app", "namespace": "default", "uid": "u"}}
        self.assertIs(self.push(bare, operation="delete"), Outcome.QUEUED)
        self.assertIs(self.push(configmap("u", "11")), Outcome.STALE)
        self.assertIs(self.push(configmap("u", "12", deleting=True)), Outcome.STALE)
        self.assertEqual(self.deliver_all(), [("delete", "u", "")])

    def test_graceful_delete(self) -> None:
        """A pod whose deletion began is sent whatever is recorded, and updates stop."""
        self.recorded["default", "u"] = "20"
        self.assertIs(self.push(configmap("u", "20", deleting=True)), Outcome.QUEUED)
        self.assertIs(self.push(configmap("u", "21")), Outcome.STALE)
        self.assertIs(self.push(configmap("u", "22", deleting=True)), Outcome.QUEUED)
        self.assertEqual(self.deliver_all(), [("update", "u", "22")])

    def test_answers_are_not_coalesced(self) -> None:
        """Two who asked get two answers, and an answer takes no change's place."""
        self.recorded["default", "u"] = "10"
        for parent in ("q1", "q2"):
            outcome = self.push(configmap("u", "10"), operation="response", parent=parent)
            self.assertIs(outcome, Outcome.QUEUED)
        self.push(configmap("u", "11"))
        self.assertEqual(
            [operation for operation, _, _ in self.deliver_all()],
            ["response", "response", "update"],
        )

    def test_answer_nobody_waits_for(self) -> None:
        """An answer is given up after the 60 s that an edge waits; a change never is."""
        self.push(configmap("u", "10"), operation="response", parent="q1")
        self.push(configmap("w", "10", name="b"), resource="default/configmap/b")
        self.assertEqual(self.sent(0.0), [("response", "u", "10")])
        self.assertEqual(self.sent(61.0), [("update", "w", "10")])
        self.assertEqual(len(self.queue.window), 1)

    def test_bounded(self) -> None:
        """A node that is away holds a bounded number of objects."""
        for number in range(QueueLimits().objects):
            self.push(configmap(f"u{number}", "1"), resource=f"default/configmap/c{number}")
        self.assertIs(self.push(configmap("x", "1"), resource="a/b/c"), Outcome.FULL)
        self.assertIs(
            self.push(configmap("u1", "2"), resource="default/configmap/c1"), Outcome.QUEUED
        )


class RecreateTests(Case):
    """An object deleted and made anew under its name is one story."""

    def test_offline(self) -> None:
        """Deleted and made anew while the node was away: delete, then the new one."""
        self.recorded["default", "old"] = "5"
        self.push(configmap("old", "6"), operation="delete")
        self.push(configmap("new", "7"), operation="insert")
        self.push(configmap("new", "8"))
        self.assertEqual(self.deliver_all(), [("delete", "old", "6"), ("update", "new", "8")])

    def test_delete_comes_late(self) -> None:
        """The old one's delete, found late, goes before the new one that still waits."""
        self.push(configmap("new", "7"), operation="insert")
        self.push(configmap("old", ""), operation="delete")
        self.assertEqual(self.deliver_all(), [("delete", "old", ""), ("insert", "new", "7")])

    def test_delete_comes_too_late(self) -> None:
        """Once the new one is sent, the old one's delete would remove it: not sent."""
        self.push(configmap("new", "7"), operation="insert")
        self.sent()
        self.assertIs(self.push(configmap("old", ""), operation="delete"), Outcome.REPLACED)
        self.ack_all()
        self.assertIs(self.push(configmap("old", ""), operation="delete"), Outcome.REPLACED)
        self.assertIs(self.push(configmap("new", "8"), operation="delete"), Outcome.QUEUED)

    def test_known_after_a_restart(self) -> None:
        """So it is when the new one was confirmed to an earlier cloud process."""
        self.recorded["default", "new"] = "7"
        self.assertIs(self.push(configmap("new", "7")), Outcome.STALE)
        self.assertIs(self.push(configmap("old", ""), operation="delete"), Outcome.REPLACED)

    def test_pods_are_deleted_by_uid(self) -> None:
        """An edge compares a pod's uid, so its delete is sent at any time."""
        pod = {"kind": "Pod", "metadata": {"name": "web", "uid": "new", "resourceVersion": "7"}}
        self.push(pod, resource="default/pod/web")
        self.deliver_all()
        old = {"metadata": {"name": "web", "uid": "old"}}
        outcome = self.push(old, resource="default/pod/web", operation="delete", version="")
        self.assertIs(outcome, Outcome.QUEUED)


class NeedsAckTests(Case):
    """The table of what an edge acknowledges."""

    def check(self, expected: bool, content: Any = None, **options: Any) -> None:
        message = self.message(content or configmap("u", "1"), version="1", **options)
        self.assertIs(needs_ack(message.route, message.content), expected, message.route)

    def test_objects(self) -> None:
        """Changes of objects, and answers that hold one."""
        for kind in ("pod", "configmap", "secret", "device", "devicemodel"):
            for operation in ("insert", "update", "delete"):
                self.check(True, resource=f"default/{kind}/x", operation=operation)
        self.check(True, resource="null/node/edge-1", operation="update")
        self.check(True, resource="default/secret/x", operation="response")

    def test_the_rest(self) -> None:
        """Answers, membership, user data, tasks, errors."""
        for resource in ("membership", "default/podlist/x", "default/serviceaccounttoken/x"):
            self.check(False, resource=resource)
        self.check(False, resource="default/volume/x", operation="createvolume")
        self.check(False, operation="applicationResponse")
        self.check(False, group="user", source="router_eventbus", operation="publish")
        self.check(False, source="taskmanager", operation="upgrade")
        self.check(False, content="OK", operation="response")
        self.check(False, content={"ErrStatus": {"code": 404}}, operation="response")
        self.check(False, content={"Object": {}, "Err": None}, operation="response")
        self.check(False, content="no such configmap", operation="error")
        for kind in ("lease", "nodepatch", "podpatch", "podstatus", "certificatesigningrequest"):
            self.check(False, resource=f"default/{kind}/x", operation="response")
        self.check(False, resource="null/node/edge-1", operation="delete")
        self.check(False, resource="default/pod/web", operation="response")


class LaneTests(Case):
    """The two lanes and the connection."""

    def test_answers_first(self) -> None:
        """Answers go before other messages without acknowledgement."""
        plain = self.message("m", version="", resource="membership")
        answer = self.message("OK", version="", operation="response", parent="q")
        self.queue.push_plain(plain, 0.0)
        self.queue.push_plain(answer, 0.0)
        self.assertEqual([self.queue.next_plain() for _ in range(3)], [answer, plain, None])

    def test_oldest_is_dropped(self) -> None:
        """Too many of them: the oldest goes, and is counted."""
        for _ in range(QueueLimits().messages + 2):
            self.queue.push_plain(self.message("m", version="", resource="membership"), 0.0)
        self.assertEqual((self.queue.plain_depth, self.queue.dropped), (QueueLimits().messages, 2))
        first = self.queue.next_plain()
        assert first is not None
        self.assertEqual(first.header.msg_id, "m3")

    def test_reconnect(self) -> None:
        """What was in flight is sent again to the next connection."""
        self.queue.connected("one", 0.0, width=4, max_sends=0)
        self.push(configmap("u", "1"))
        self.assertEqual(len(self.sent()), 1)
        self.assertTrue(self.queue.disconnected("one"))
        self.queue.connected("two", 0.0, width=4, max_sends=0)
        self.assertFalse(self.queue.disconnected("one"), "an old session ended the new one's")
        self.assertEqual(len(self.sent()), 1)

    def test_late_answers(self) -> None:
        """Nobody waits for them: a node that was away for a minute gets none, nor old lists."""
        question = self.message("OK", version="", operation="response", parent="q")
        devices = self.message("m", version="", resource="membership")
        for away in (60.0, 61.0):
            self.queue.push_plain(question, 0.0)
            self.queue.push_plain(devices, 0.0)
            answer = self.message(configmap("u", "5"), operation="response", parent="q")
            self.queue.push(answer, 0.0)
            self.queue.settle(away)
            kept = away == 60.0
            self.assertEqual((self.queue.plain_depth, len(self.queue.window)), (2 * kept, kept))
            self.queue.connected("one", away + 1, width=4, max_sends=0)
            self.assertIsNone(self.queue.next_plain())
            self.assertEqual(len(self.queue.window), 0)
            self.assertTrue(self.queue.disconnected("one"))

    def test_another_cloud_was_faster(self) -> None:
        """What another cloud process delivered meanwhile is not sent when the node comes."""
        self.push(configmap("u", "5"))
        self.push(configmap("w", "5"), resource="default/configmap/w")
        self.recorded["default", "u"] = "6"
        gone = self.queue.connected("one", 0.0, width=4, max_sends=0)
        self.assertEqual([order.uid for order in gone], ["u"])
        self.assertEqual(self.deliver_all(), [("update", "w", "5")])

    def test_another_cloud_has_the_node(self) -> None:
        """What it delivers does not gather here: neither states nor, in time, deletes."""
        self.push(configmap("u", "5"))
        self.push(configmap("v", "6"), operation="delete", resource="default/configmap/old")
        self.recorded["default", "v"] = "4"
        self.queue.settle(600.0)
        self.assertEqual(len(self.queue.window), 2)  # nobody has delivered it
        self.recorded["default", "u"] = "5"
        del self.recorded["default", "v"]
        self.queue.settle(599.0)
        self.assertEqual(len(self.queue.window), 1)  # its record may be on its way
        self.queue.settle(600.0)
        self.assertEqual(len(self.queue.window), 0)

    def test_settles_nothing_while_connected(self) -> None:
        """What is in flight here is ended by its acknowledgement alone."""
        self.push(configmap("u", "6"), operation="delete")
        self.queue.connected(object(), 0.0, width=1, max_sends=0)
        self.queue.settle(1e9)
        self.assertEqual(len(self.queue.window), 1)

    def test_another_cloud_saw_it_made_again(self) -> None:
        """A delete by name is followed by the object of that name, or is not sent at all."""
        self.push(configmap("old", "5"), operation="delete")
        self.push(configmap("new", "7"), operation="insert")
        self.recorded["default", "new"] = "7"
        self.assertEqual(self.queue.connected("one", 0.0, width=4, max_sends=0), [])
        self.assertEqual(self.deliver_all(), [("delete", "old", "5"), ("insert", "new", "7")])

        self.push(configmap("new", "8"), operation="delete")
        self.recorded["default", "third"] = "9"
        self.push(configmap("third", "9"), operation="insert")
        gone = self.queue.connected("two", 0.0, width=4, max_sends=0)
        self.assertEqual([order.uid for order in gone], ["new"])
        self.assertEqual(self.deliver_all(), [])


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("change"), st.integers(0, 1)),
        st.tuples(st.just("recreate"), st.integers(0, 1)),
        st.tuples(st.just("repair"), st.integers(0, 1)),
        st.tuples(st.just("send"), st.integers(0, 6)),
        st.tuples(st.just("ack"), st.integers(0, 20)),
        st.tuples(st.just("reconnect"), st.just(0)),
        st.tuples(st.just("restart"), st.just(0)),
    ),
    max_size=50,
)


class PromiseTests(Case):
    """Whatever happens, the edge ends up with what the cluster has."""

    @settings(max_examples=300, deadline=None)
    @given(STEPS, st.integers(1, 3), st.sampled_from([0, 5]))
    def test_the_edge_converges(
        self, steps: list[tuple[str, int]], width: int, max_sends: int
    ) -> None:
        """Changes, deletes, recreations, repairs, lost links and restarts of the cloud."""
        self.setUp()
        self.queue.connected("x", 0.0, width=width, max_sends=max_sends)
        cluster: dict[str, tuple[str, int]] = {}
        edge: dict[str, tuple[str, int]] = {}
        sent: list[str] = []
        now = 0.0

        def arrive(at: float) -> None:
            for order in self.queue.to_send(at, 100):
                key = order.key
                if order.is_delete:
                    edge.pop(key, None)  # like a Go edge: by name, whatever the uid
                else:
                    uid, version = edge.get(key, ("", 0))
                    if uid == order.uid:
                        self.assertGreaterEqual(int(order.version), version, "back in time")
                    edge[key] = (order.uid, int(order.version))
                sent.append(order.message.header.msg_id)

        def ack(message_id: str) -> None:
            order = self.queue.acked(message_id)
            if order is None:
                return
            if order.is_delete:
                self.recorded.pop((order.namespace, order.uid), None)
            else:
                self.recorded[order.namespace, order.uid] = order.version

        def push(operation: str, name: str, uid: str, version: int) -> None:
            outcome = self.push(
                configmap(uid, str(version) if version else "", name=name),
                operation=operation,
                resource=f"default/configmap/{name}",
            )
            if outcome is Outcome.REPLACED:
                self.recorded.pop(("default", uid), None)

        def repair() -> None:
            """What SyncController does."""
            for _, uid in list(self.recorded):
                name = uid.split("-")[0]
                if name not in cluster or cluster[name][0] != uid:
                    push("delete", name, uid, 0)

        for clock, (verb, n) in enumerate(steps, 1):
            name = f"c{n}"
            if verb == "change":
                uid = cluster.get(name, (f"{name}-{clock}", 0))[0]
                known = name in cluster
                cluster[name] = (uid, clock)
                push("update" if known else "insert", name, uid, clock)
            elif verb == "recreate" and name in cluster:
                push("delete", name, cluster[name][0], clock)
                cluster[name] = (f"{name}-{clock}", clock)
                push("insert", name, *cluster[name])
            elif verb == "repair":
                repair()
            elif verb == "send":
                now += n
                arrive(now)
            elif verb == "ack" and sent:
                ack(sent[n % len(sent)])
            elif verb == "reconnect":
                self.queue.connected("x", 0.0, width=width, max_sends=max_sends)
            elif verb == "restart":
                self.queue = NodeMessageQueue(
                    "edge-1", lambda ns, uid: self.recorded.get((ns, uid))
                )
                self.queue.connected("x", 0.0, width=width, max_sends=max_sends)
                sent.clear()
                for name, (uid, version) in cluster.items():
                    push("insert", name, uid, version)
        for _ in range(4):
            repair()
            for _ in range(30):
                now += 6
                arrive(now)
                for message_id in tuple(sent):
                    ack(message_id)
        self.assertEqual({key.split("/")[2]: value for key, value in edge.items()}, cluster)
        self.assertEqual(len(self.queue.window), 0)
