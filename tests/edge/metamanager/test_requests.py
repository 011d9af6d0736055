from __future__ import annotations

from typing import Any, ClassVar

from twisted.internet.defer import Deferred

from kubeedge_tx.beehive.message import Message
from kubeedge_tx.errors import StoreError
from tests.edge.edgecase import START, EdgeCase, k8s_object, push


def status_error(reason: str, code: int, message: str) -> Any:
    status = {"status": "Failure", "reason": reason, "code": code, "message": message}
    return {"ErrStatus": status}


class RequestCase(EdgeCase):
    """Edged on one side, the cloud on the other."""

    def sent(self) -> Message:
        """The one message that went up."""
        (message,) = self.cloud.channel.take()
        return message

    def reply(self, to: Message, content: object, operation: str = "response") -> list[Message]:
        return self.receive(
            push(
                operation,
                to.route.resource,
                content,
                parent=to.header.msg_id,
                message_id=f"answer-to-{to.header.msg_id}",
            )
        )

    def offline(self) -> None:
        self.cloud.hanging = Deferred()
        self.cloud.channel.lose()
        self.settle()


class QueryTests(RequestCase):
    """Where answers come from."""

    def test_all_pods(self) -> None:
        """One question gives the pods of every namespace; edged starts from that."""
        for namespace in ("default", "other"):
            pod = k8s_object("Pod", "web", uid=namespace)
            self.receive(push("insert", f"{namespace}/pod/web", pod))
        self.kill()
        pods = self.answer("query", "default/pod")
        self.assertEqual([pod["metadata"]["uid"] for pod in pods], ["default", "other"])

    def test_unknown_node(self) -> None:
        """What only pushes bring is not asked for."""
        kind, text = self.answer("query", "null/node/edge-1")
        self.assertEqual(kind, "error")
        self.assertIn("not found", text)
        self.assertEqual(self.cloud.channel.take(), [])

    def test_configmap_from_cloud(self) -> None:
        """It is asked for once, stored, acknowledged; later questions stay here."""
        asked = self.ask("query", "default/configmap/app")
        question = self.sent()
        self.assertEqual(
            (question.route.source, question.route.group, question.route.operation),
            ("edged", "meta", "query"),
        )
        self.assertFalse(question.header.sync)
        self.assertNoResult(asked)
        config = k8s_object("ConfigMap", "app", data={"a": "b"})
        (ack,) = self.reply(question, config)
        self.assertEqual(self.read(self.successResultOf(asked)), config)
        self.assertEqual(
            (ack.route.source, ack.route.group, ack.header.parent_id, ack.read()),
            ("edgecontroller", "resource", f"answer-to-{question.header.msg_id}", "OK"),
        )
        self.offline()
        self.assertEqual(self.answer("query", "default/configmap/app"), config)

    def test_asked_together(self) -> None:
        """Ten pods that want one secret at the same time cost one question."""
        asked = [self.ask("query", "default/secret/s") for _ in range(10)]
        self.reply(self.sent(), k8s_object("Secret", "s"))
        self.assertEqual(
            {self.successResultOf(each).route.operation for each in asked}, {"response"}
        )

    def test_error_value(self) -> None:
        """A Go cloud's error in an answer's clothes is an error, and is not stored."""
        for operation, content in (
            ("response", status_error("NotFound", 404, 'configmaps "app" not found')),
            ("error", 'configmaps "app" not found'),
            ("error", status_error("NotFound", 404, "no such thing")),
            ("response", {"Object": None, "Err": status_error("NotFound", 404, "not found")}),
        ):
            asked = self.ask("query", "default/configmap/app")
            sent = self.reply(self.sent(), content, operation)
            kind, text = self.read(self.successResultOf(asked))
            self.assertEqual(kind, "error")
            self.assertIn("not found", text)
            self.assertEqual(len(sent), 1)
            self.assertIsNone(self.stored("default/configmap/app"))

    def test_another_object(self) -> None:
        """An answer about something else is not taken for the object."""
        for content in (k8s_object("ConfigMap", "other"), "OK", None, [1], 3):
            asked = self.ask("query", "default/configmap/app")
            self.reply(self.sent(), content)
            self.assertEqual(self.read(self.successResultOf(asked))[0], "error", content)
            self.assertIsNone(self.stored("default/configmap/app"))

    def test_answer_older_than_push(self) -> None:
        """A change that overtook the answer stays."""
        asked = self.ask("query", "default/configmap/app")
        question = self.sent()
        newer = k8s_object("ConfigMap", "app", version="9")
        self.receive(push("update", "default/configmap/app", newer))
        self.reply(question, k8s_object("ConfigMap", "app", version="8"))
        self.successResultOf(asked)
        self.assertEqual(self.stored("default/configmap/app"), newer)

    def test_offline(self) -> None:
        """Without a connection the question fails at once."""
        self.offline()
        for resource in ("default/configmap/app", "kube-node-lease/lease/edge-1"):
            kind, text = self.answer("query", resource)
            self.assertEqual(kind, "error")
            self.assertIn("not connected", text)

    def test_link_breaks(self) -> None:
        """Whoever waits for an answer hears of the break, not of a timeout."""
        asked = self.ask("query", "default/configmap/app")
        self.offline()
        kind, text = self.read(self.successResultOf(asked))
        self.assertEqual(kind, "error")
        self.assertIn("not connected", text)

    def test_other_patience(self) -> None:
        """How long an answer is waited for can change while it runs."""
        self.meta.reconfigure(remote_query_timeout=5.0)
        asked = self.ask("query", "default/configmap/app")
        self.sent()
        self.clock.advance(4)
        self.settle()
        self.assertNoResult(asked)
        self.clock.advance(1)
        self.settle()
        self.assertEqual(self.read(self.successResultOf(asked))[0], "error")

    def test_no_answer(self) -> None:
        """After a minute the question has failed; the answer that comes then is kept."""
        asked = self.ask("query", "default/configmap/app")
        question = self.sent()
        self.clock.advance(60)
        self.settle()
        self.assertEqual(self.read(self.successResultOf(asked))[0], "error")
        config = k8s_object("ConfigMap", "app")
        for _ in range(2):  # the cloud repeats it if the acknowledgement is lost
            (ack,) = self.reply(question, config)
            self.assertEqual(ack.header.parent_id, f"answer-to-{question.header.msg_id}")
        self.assertEqual(self.answer("query", "default/configmap/app"), config)

    def test_disk_full(self) -> None:
        """An answer that cannot be stored is not acknowledged, so the cloud repeats it."""
        asked = self.ask("query", "default/configmap/app")
        question = self.sent()
        self.database.failing = StoreError("the disk is full")
        self.assertEqual(self.reply(question, k8s_object("ConfigMap", "app")), [])
        self.assertIn("disk is full", self.read(self.successResultOf(asked))[1])

    def test_not_for_edged(self) -> None:
        """A verb we do not know is refused by name."""
        kind, text = self.answer("frobnicate", "default/pod/web")
        self.assertEqual(kind, "error")
        self.assertIn("frobnicate", text)


class PassedThroughTests(RequestCase):
    """Node, lease and signing request: the cloud's words, unchanged."""

    def test_node(self) -> None:
        """A registered node is stored with its kind, which a Go cloud leaves out."""
        asked = self.ask("insert", "null/node/edge-1", {"metadata": {"name": "edge-1"}})
        found = {"metadata": {"name": "edge-1", "uid": "n", "resourceVersion": "3"}}
        sent = self.reply(self.sent(), {"Object": found, "Err": None})
        self.assertEqual(len(sent), 1)
        self.assertEqual(self.read(self.successResultOf(asked)), {"Object": found, "Err": None})
        self.assertEqual(
            self.answer("query", "null/node/edge-1"), {**found, "kind": "Node", "apiVersion": "v1"}
        )

    def test_node_exists(self) -> None:
        """The refusal reaches edged as it is."""
        asked = self.ask("insert", "null/node/edge-1", {})
        content = {"Object": None, "Err": status_error("AlreadyExists", 409, "exists")}
        self.reply(self.sent(), content)
        self.assertEqual(self.read(self.successResultOf(asked)), content)
        self.assertIsNone(self.stored("null/node/edge-1"))

    def test_lease(self) -> None:
        """A lease is renewed without a write to the disk."""
        asked = self.ask("update", "kube-node-lease/lease/edge-1", {})
        content = {"Object": {"metadata": {"name": "edge-1"}}, "Err": None}
        self.reply(self.sent(), content)
        self.assertEqual(self.read(self.successResultOf(asked)), content)
        self.assertIsNone(self.stored("kube-node-lease/lease/edge-1"))


class ReportTests(RequestCase):
    """What must reach the cloud."""

    def waiting(self) -> list[str]:
        entries = self.successResultOf(
            Deferred.fromCoroutine(self.outbox.read(self.outbox.next_ids(99)))
        )
        return [f"{e.message.route.operation} {e.message.route.resource}" for e in entries]

    def test_patch(self) -> None:
        """Edged hears OK when it is on disk; it waits until the cloud has answered."""
        self.database.held = True
        asked = self.ask("patch", "default/podpatch/web", '{"status":{}}')
        self.assertNoResult(asked)
        self.database.run()
        self.database.held = False
        self.settle()
        while self.database.waiting:
            self.database.run()
        self.settle()
        self.assertEqual(self.read(self.successResultOf(asked)), "OK")
        sent = self.sent()
        self.assertEqual(sent.read(), '{"status":{}}')
        self.assertEqual(len(self.outbox), 1)
        pod = k8s_object("Pod", "web")
        self.assertEqual(self.reply(sent, {"Object": pod, "Err": None}), [])
        self.assertEqual(len(self.outbox), 0)
        self.assertIsNone(self.stored("default/pod/web"))
        self.assertEqual(self.bus.late_responses, 0, "a confirmation is not a late answer")

    def test_killed_after_ok(self) -> None:
        """A status that edged was told is safe goes out after the restart."""
        self.offline()
        self.assertEqual(self.answer("patch", "default/podpatch/web", "{}"), "OK")
        self.kill()
        self.assertEqual(self.sent().route.resource, "default/podpatch/web")

    def test_newest_status_only(self) -> None:
        """After a day offline the cloud gets one status a pod, the last."""
        self.offline()
        for n in range(100):
            self.answer("patch", "default/podpatch/web", f'{{"n":{n}}}')
            self.answer("patch", "null/nodepatch/edge-1", f'{{"n":{n}}}')
        self.answer("delete", "default/pod/old", {"preconditions": {"uid": "u"}})
        self.assertEqual(
            self.waiting(),
            ["patch null/nodepatch/edge-1", "patch default/podpatch/web", "delete default/pod/old"],
        )
        hanging, self.cloud.hanging = self.cloud.hanging, None
        assert hanging is not None
        self.clock.advance(60)
        hanging.callback(None)
        self.settle()
        sent = self.cloud.channel.take()
        self.assertEqual([each.read() for each in sent[:2]], ['{"n":99}'] * 2)

    def test_disk_full(self) -> None:
        """Edged hears that nothing is kept; the node's state goes out all the same."""
        self.database.failing = StoreError("the disk is full")
        for what, sent in (("null/nodepatch/edge-1", 1), ("default/podpatch/web", 0)):
            kind, text = self.answer("patch", what, '{"status":{}}')
            self.assertEqual((kind, text), ("error", "the disk is full"))
            self.settle()
            found = [each for each in self.cloud.channel.take() if each.route.resource == what]
            self.assertEqual(len(found), sent, what)
        self.assertEqual(len(self.outbox), 0)

    def test_refused_for_good(self) -> None:
        """What the cloud will never take is given up."""
        for reason, code in (("NotFound", 404), ("Conflict", 409), ("Invalid", 422)):
            self.answer("patch", "default/podpatch/web", "{}")
            self.reply(self.sent(), {"Object": None, "Err": status_error(reason, code, "no")})
            self.assertEqual(len(self.outbox), 0, reason)

    def test_refused_for_now(self) -> None:
        """What the cloud could not do just now is sent again soon, then more and more slowly."""
        self.answer("patch", "default/podpatch/web", "{}")
        error = {"Object": None, "Err": status_error("InternalError", 500, "etcd is away")}
        first = self.sent()
        for pause in (2, 4, 8, 15, 15):
            self.reply(first, error)
            self.reply(first, error)  # one that came twice slows nothing down
            self.quiet(pause - 0.01)
            self.clock.advance(pause / 4 + 0.02)
            self.settle()
            self.assertEqual(self.sent().header.msg_id, first.header.msg_id)
        self.assertEqual(self.hub.resends, 5)
        self.offline()
        self.assertEqual(self.hub.resends, 5)

    def test_no_answer(self) -> None:
        """What the cloud does not answer is sent again, more and more slowly."""
        self.answer("patch", "default/podpatch/web", "{}")
        first = self.sent()
        for pause in (60, 120, 240, 300, 300):
            self.quiet(pause - 1)
            self.clock.advance(1)
            self.settle()
            self.assertEqual(self.sent().header.msg_id, first.header.msg_id)
        self.assertEqual(self.hub.resends, 5)

    def quiet(self, seconds: float) -> None:
        """Nothing is sent for so long."""
        self.clock.advance(seconds)
        self.settle()
        self.assertEqual(self.cloud.channel.take(), [])

    def test_answer_to_replaced_status(self) -> None:
        """The answer to an older status does not confirm the newer one."""
        self.answer("patch", "default/podpatch/web", "1")
        old = self.sent()
        self.answer("patch", "default/podpatch/web", "2")
        self.reply(old, {"Object": k8s_object("Pod", "web"), "Err": None})
        self.assertEqual(len(self.outbox), 1)

    def test_node_from_answer(self) -> None:
        """The patched node is kept, unless a push has brought a newer one."""
        for version, kept in (("5", "5"), ("4", "5")):
            self.answer("patch", "null/nodepatch/edge-1", "{}")
            node = {"metadata": {"name": "edge-1", "uid": "n", "resourceVersion": version}}
            self.reply(self.sent(), {"Object": node, "Err": None})
            stored = self.stored("null/node/edge-1")
            self.assertEqual(
                (stored["kind"], stored["metadata"]["resourceVersion"]), ("Node", kept)
            )

    def test_delete(self) -> None:
        """A delete is repeated on the next connection until the cloud knows of it."""
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": "u1"}}
        self.assertEqual(self.answer("delete", "default/pod/web", options), "OK")
        self.assertEqual(self.answer("delete", "default/pod/web", options), "OK")
        self.assertEqual(self.waiting(), ["delete default/pod/web"])
        self.cloud.channel.lose()
        self.clock.advance(60)
        self.settle()
        sent = self.sent()
        self.assertEqual(sent.read(), options)
        self.reply(sent, "OK")
        self.assertEqual(self.waiting(), [])

    def test_delete_of_unknown_pod(self) -> None:
        """Gone is gone, whichever way a cloud says it."""
        for operation, content in (
            ("response", status_error("NotFound", 404, "no pod")),
            ("error", 'pods "web" not found'),
        ):
            self.answer("delete", "default/pod/web", {})
            self.reply(self.sent(), content, operation)
            self.assertEqual(self.waiting(), [])

    def test_events(self) -> None:
        """Events need no confirmation: gone once written, kept while offline."""
        self.assertEqual(self.answer("insert", "default/event/e1", {}), "OK")
        self.assertEqual(self.sent().route.resource, "default/event/e1")
        self.assertEqual(self.waiting(), [])
        self.offline()
        self.answer("insert", "default/event/e2", {})
        self.answer("patch", "default/event/e2", {"event": {}, "patchData": "{}"})
        self.kill()
        self.assertEqual(
            [each.route.operation for each in self.cloud.channel.take()], ["insert", "patch"]
        )


class TokenTests(RequestCase):
    """Service-account tokens."""

    REQUEST: ClassVar[Any] = {
        "spec": {
            "audiences": None,
            "expirationSeconds": 3600,
            "boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "web", "uid": "u1"},
        }
    }
    RESOURCE = "default/serviceaccounttoken/robot"

    def token(self) -> Any:
        end = START + 3600
        assert end == 1_795_506_734
        return {
            "metadata": {"name": "robot", "namespace": "default"},
            "spec": {**self.REQUEST["spec"], "audiences": ["https://kubernetes.default.svc"]},
            "status": {"token": "secret", "expirationTimestamp": "2026-11-24T07:52:14Z"},
        }

    def fetch(self) -> None:
        asked = self.ask("query", self.RESOURCE, self.REQUEST)
        self.assertEqual(len(self.reply(self.sent(), self.token())), 1)
        self.assertEqual(self.read(self.successResultOf(asked)), self.token())

    def test_kept(self) -> None:
        """A token serves until four fifths of its life, under upstream's key."""
        self.fetch()
        self.assertEqual(
            [row.key for row in self.store.list("serviceaccounttoken")],
            [
                '"robot"/"default"/[]string(nil)/3600/v1.BoundObjectReference'
                '{Kind:"Pod", APIVersion:"v1", Name:"web", UID:"u1"}'
            ],
        )
        self.clock.advance(3600 * 0.8 - 1)
        self.assertEqual(self.answer("query", self.RESOURCE, self.REQUEST), self.token())
        self.clock.advance(1)
        self.cloud.channel.take()
        self.assertNoResult(self.ask("query", self.RESOURCE, self.REQUEST))

    def test_offline(self) -> None:
        """Late in its life a token is better than none, and so is one that has ended."""
        self.fetch()
        self.clock.advance(3500)
        self.offline()
        self.assertEqual(self.answer("query", self.RESOURCE, self.REQUEST), self.token())
        self.clock.advance(10 * 86_400)
        self.assertEqual(self.answer("query", self.RESOURCE, self.REQUEST), self.token())

    def test_refused(self) -> None:
        """When the cloud says no, a token that has ended does not stand in for a new one."""
        self.fetch()
        self.clock.advance(3500)
        for seconds, refused in ((0, False), (200, True)):
            self.clock.advance(seconds)
            self.cloud.channel.take()
            asked = self.ask("query", self.RESOURCE, self.REQUEST)
            self.reply(self.sent(), status_error("Forbidden", 403, "no"))
            answer = self.read(self.successResultOf(asked))
            self.assertEqual(answer == self.token(), not refused)

    def test_goes_with_the_pod(self) -> None:
        """The tokens of a deleted pod are removed with it, and no others."""
        self.fetch()
        self.receive(push("insert", "default/pod/other", k8s_object("Pod", "other", "u2")))
        self.receive(push("insert", "default/pod/web", k8s_object("Pod", "web", "u1")))
        self.receive(push("delete", "default/pod/other", k8s_object("Pod", "other", "u2")))
        self.assertEqual(len(self.store.list("serviceaccounttoken")), 1)
        self.receive(push("delete", "default/pod/web", k8s_object("Pod", "web", "u1")))
        self.assertEqual(self.store.list("serviceaccounttoken"), [])

    def test_bad_request(self) -> None:
        """What is no TokenRequest is not asked of the cloud."""
        self.assertEqual(self.answer("query", self.RESOURCE, "text")[0], "error")
        self.assertEqual(self.cloud.channel.take(), [])
