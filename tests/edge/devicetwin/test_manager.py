from __future__ import annotations

import json
from typing import Any

from zope.interface.verify import verifyObject

from kubeedge_tx.beehive.interfaces import IModule
from kubeedge_tx.edge.devicetwin import manager
from kubeedge_tx.errors import StoreError
from tests.edge.devicetwin.twincase import (
    DEVICE,
    THERMO,
    TwinCase,
    device_object,
    model_object,
)
from tests.edge.edgecase import push


def twin_values(message: Any) -> Any:
    """A report, as ``{property: {side: value}}``."""
    return {
        name: {side: entry[side]["value"] for side in ("expected", "actual") if side in entry}
        for name, entry in message.read()["twin"].items()
    }


class OnlineTests(TwinCase):
    """An app, an edge and a cloud that answers."""

    def setUp(self) -> None:
        super().setUp()
        self.members(THERMO)
        self.push_object(model_object(), "insert")
        self.push_object(device_object(), "insert")
        self.reports()

    def test_interface(self) -> None:
        """It is a module."""
        verifyObject(IModule, self.devices)

    def test_order_of_an_update(self) -> None:
        """Result, document, delta, then the cloud; and only then the broker may say yes."""
        self.push_object(device_object({"threshold": "30"}, version="11"))
        self.database.held = True
        self.reports()
        self.port.take()
        twin = {"threshold": {"actual": {"value": "29"}, "metadata": {"type": "int"}}}
        acknowledged = self.port.arrive(f"{DEVICE}/twin/update", {"event_id": "e", "twin": twin})
        assert acknowledged is not None
        self.settle()
        self.assertEqual(self.port.take(), [])
        self.assertNoResult(acknowledged)
        self.assertEqual(self.cloud.channel.take(), [])
        self.assertEqual(self.database.waiting, 1)
        self.database.held = False
        self.database.run()
        self.settle()
        self.successResultOf(acknowledged)
        topics = [each.topic.removeprefix(f"{DEVICE}/twin/update/") for each in self.port.take()]
        self.assertEqual(topics, ["result", "document", "delta"])
        (report,) = self.reports()
        self.assertEqual(report.route.resource, f"device/{THERMO}/twin/edge_updated")
        entry = report.read()["twin"]["threshold"]
        self.assertEqual(entry["actual_version"], {"cloud": 0, "edge": 1})
        self.assertEqual(entry["expected"]["value"], "30", "not confirmed, so it is in it again")

    def test_confirmed(self) -> None:
        """What the cloud has confirmed is not sent again, also not with what comes later."""
        self.report(threshold="29")
        self.confirm_all()
        self.assertEqual(len(self.outbox), 0)
        self.report(temperature="20")
        (second,) = self.reports()
        self.assertEqual(twin_values(second), {"temperature": {"actual": "20"}})
        self.confirm(second)
        self.confirm_all()
        self.clock.advance(600)
        self.assertEqual(self.reports(), [])

    def test_first_report(self) -> None:
        """The first report of a property is made twice: a Go cloud shows only the second."""
        self.report(threshold="29")
        (first,) = self.reports()
        self.confirm(first)
        (second,) = self.reports()
        self.assertEqual(twin_values(second), twin_values(first))
        self.confirm(second)
        self.assertEqual(self.reports(), [])
        self.report(threshold="30")
        (third,) = self.reports()
        self.confirm(third)
        self.assertEqual(self.reports(), [])

    def test_confirmed_late(self) -> None:
        """A confirmation of an older report does not confirm the newer values."""
        self.report(threshold="27")
        self.confirm_all()
        self.report(threshold="29")
        (first,) = self.reports()
        self.report(threshold="28")
        (second,) = self.reports()
        self.confirm(first)
        self.assertEqual(len(self.outbox), 1)
        self.clock.advance(61)
        (again,) = self.reports()
        self.assertEqual(again.header.msg_id, second.header.msg_id)
        self.confirm(second)
        self.assertEqual(len(self.outbox), 0)

    def test_error_is_no_confirmation(self) -> None:
        """An error answer leaves the report where it is."""
        self.report(threshold="29")
        (first,) = self.reports()
        parent = first.header.msg_id
        self.receive(push("error", "twin", "no", group="twin", parent=parent))
        self.assertTrue(self.outbox.has(parent))

    def test_state(self) -> None:
        """States reach apps and the cloud; the time of the last sight stays."""
        (result,) = self.arrive(f"{DEVICE}/state/update", {"event_id": "e", "state": "OK"})
        self.assertEqual(result.topic, f"{DEVICE}/state/update/result")
        seen = result.json["device"]
        self.assertEqual(seen["state"], "OK")
        (report,) = self.reports()
        self.assertEqual(report.route.resource, f"device/{THERMO}/state/update")
        self.assertEqual(json.loads(report.read()), result.json)
        self.clock.advance(10)
        self.arrive(f"{DEVICE}/state/update", {"state": "offline"})
        (newer,) = self.reports()
        told = json.loads(newer.read())["device"]
        self.assertEqual(told, {**seen, "state": "offline"})
        self.assertEqual(len(self.outbox), 1, "the newest state replaces the older one")
        self.kill()
        (members,) = self.arrive("$hw/events/node/edge-1/membership/get", {})
        (device,) = members.json["devices"]
        self.assertEqual(
            (device["state"], device["last_online"]), ("offline", told["lastOnlineTime"])
        )

    def test_desired(self) -> None:
        """A value set in the cloud: expected value, document, delta, in ``get``, observed."""
        published = self.push_object(device_object({"threshold": "30"}, version="11"))
        document, delta = published
        self.assertEqual(document.topic, f"{DEVICE}/twin/update/document")
        self.assertEqual(document.json["twin"]["threshold"]["last"], None)
        self.assertEqual(delta.topic, f"{DEVICE}/twin/update/delta")
        self.assertEqual(delta.json["delta"], {"threshold": "30"})
        self.assertEqual(self.values(), {"threshold": ("30", None)})
        self.assertEqual(self.twins()["threshold"]["metadata"], {"type": "int"})
        (report,) = self.reports()
        self.assertEqual(twin_values(report), {"threshold": {"expected": "30"}})
        version = report.read()["twin"]["threshold"]["expected_version"]
        self.assertEqual(version, {"cloud": 11, "edge": 0})
        quiet = self.push_object(device_object({"threshold": "30"}, version="12"))
        self.assertEqual(quiet, [], "only the version is new")

    def test_desired_no_more(self) -> None:
        """A desired value that is taken back is no longer expected."""
        self.push_object(device_object({"threshold": "30"}, version="11"))
        self.report(threshold="29")
        self.push_object(device_object({}, version="12"))
        self.assertEqual(self.values(), {"threshold": (None, "29")})

    def test_property_removed(self) -> None:
        """A property that is gone from the Device is gone from the twins."""
        self.report(threshold="29", label="a")
        (document,) = self.push_object(
            device_object({}, version="12", properties=("threshold", "temperature"))
        )
        self.assertEqual(document.json["twin"]["label"]["current"], None)
        self.assertEqual(self.values(), {"threshold": (None, "29")})
        self.kill()
        self.assertEqual(self.values(), {"threshold": (None, "29")})

    def test_edge_edit_stands(self) -> None:
        """An app's desired value stands until the cloud changes that property again."""
        self.push_object(device_object({"threshold": "30"}, version="11"))
        twin = {"threshold": {"expected": {"value": "40"}}}
        self.arrive(f"{DEVICE}/twin/update", {"twin": twin})
        other = device_object({"threshold": "30", "label": "x"}, version="12")
        self.push_object(other)
        self.assertEqual(self.values()["threshold"], ("40", None))
        self.push_object(device_object({"threshold": "31", "label": "x"}, version="13"))
        self.assertEqual(self.values()["threshold"], ("31", None))

    def test_stale_object(self) -> None:
        """An object older than the one known changes nothing."""
        self.push_object(device_object({"threshold": "30"}, version="20"))
        self.receive(
            push("update", "default/device/thermo", device_object({"threshold": "10"}, version="9"))
        )
        self.assertEqual(self.values()["threshold"], ("30", None))

    def test_made_again(self) -> None:
        """A Device deleted and made again under its name starts anew."""
        self.push_object(device_object({"threshold": "30"}, version="11"))
        self.report(threshold="29")
        published = self.push_object(device_object({}, version="50", uid="another"))
        gone, come = published
        self.assertEqual(gone.json["removed_devices"][0]["id"], THERMO)
        self.assertEqual(come.json["added_devices"][0]["id"], THERMO)
        self.assertEqual(self.values(), {})
        self.kill()
        self.assertEqual(self.values(), {})

    def test_refused_by_model(self) -> None:
        """What the model does not allow is not expected, whoever wants it; later it may be."""
        self.push_object(device_object({"threshold": "30"}, version="11"))
        self.push_object(device_object({"threshold": "500", "temperature": "9"}, version="12"))
        self.assertEqual(self.values(), {"threshold": ("30", None)})
        (document, delta) = self.push_object(model_object(version="13", maximum="1000"))
        self.assertEqual(delta.json["delta"], {"threshold": "500"})
        del document

    def test_model_read_at_start(self) -> None:
        """The model's limits are known after a restart."""
        self.kill()
        (result,) = self.report(threshold="101")
        self.assertEqual(result.json["code"], 400)
        (result,) = self.report(unheard="1")
        self.assertEqual(result.json["reason"], "the device model has no property unheard")

    def test_without_model(self) -> None:
        """Without a model any property may be made up, as upstream has it."""
        self.push_object(model_object(), "delete")
        result, _ = self.report(color="red")
        self.assertEqual(result.json["twin"]["color"]["metadata"], {"type": "string"})

    def test_disk_full(self) -> None:
        """Nothing is kept, the app hears 500, its message is not acknowledged; then it works."""
        self.report(threshold="29")
        self.database.failing = StoreError("edge.db: the disk is full")
        done = self.port.arrive(
            f"{DEVICE}/twin/update",
            {"event_id": "e", "twin": {"threshold": {"actual": {"value": "5"}}}},
        )
        self.port.take()
        self.settle()
        assert done is not None
        self.failureResultOf(done, StoreError)
        (result,) = self.port.take()
        self.assertEqual(result.json["code"], 500)
        self.assertEqual(result.json["event_id"], "e")
        done = self.port.arrive(f"{DEVICE}/state/update", {"event_id": "s", "state": "online"})
        self.settle()
        assert done is not None
        self.failureResultOf(done, StoreError)
        self.assertEqual(self.port.take()[0].json["code"], 500)
        self.database.failing = None
        self.assertEqual(self.values(), {"threshold": (None, "29")})
        self.report(threshold="6")
        self.assertEqual(self.values(), {"threshold": (None, "6")})
        (members,) = self.arrive("$hw/events/node/x/membership/get", {})
        self.assertNotIn("state", members.json["devices"][0])

    def test_disk_full_for_the_cloud(self) -> None:
        """A desired value that could not be stored is taken in once there is room again."""
        self.database.held = True
        taken = self.cloud.channel.user.received(
            push(
                "update",
                "default/device/thermo",
                device_object({"threshold": "30"}, version="11"),
                source="devicecontroller",
            )
        )
        self.settle()
        self.database.run()  # MetaManager's
        self.database.failing = StoreError("edge.db: the disk is full")
        self.settle()
        self.database.held = False
        self.settle()
        self.successResultOf(taken)
        for _ in range(3):
            self.clock.advance(5)
            self.settle()
        self.assertEqual(self.values(), {})
        self.database.failing = None
        self.clock.advance(5)
        self.settle()
        self.assertEqual(self.values(), {"threshold": ("30", None)})

    def test_many_at_once(self) -> None:
        """Updates on their way at the same time share commits, and all are answered in order."""
        self.database.held = True
        waiting = [
            self.port.arrive(
                f"{DEVICE}/twin/update",
                {"event_id": f"e{n}", "twin": {"threshold": {"actual": {"value": str(n)}}}},
            )
            for n in range(1, 51)
        ]
        self.settle()
        self.port.take()
        commits = 0
        while self.database.waiting:
            self.database.run()
            self.settle()
            commits += 1
        self.assertLess(commits, 10)
        for each in waiting:
            assert each is not None
            self.successResultOf(each)
        answers = [each.json["event_id"] for each in self.port.take() if "result" in each.topic]
        self.assertEqual(answers, [f"e{n}" for n in range(1, 51)])
        self.database.held = False
        self.assertEqual(self.values(), {"threshold": (None, "50")})

    def test_get_shows_the_disk(self) -> None:
        """A question asked while an update is on its way is answered after it, from the disk."""
        self.database.held = True
        self.port.arrive(
            f"{DEVICE}/twin/update",
            {"event_id": "u", "twin": {"threshold": {"actual": {"value": "5"}}}},
        )
        self.port.arrive(f"{DEVICE}/twin/get", {"event_id": "g"})
        self.settle()
        self.assertEqual(self.port.take(), [])
        while self.database.waiting:
            self.database.run()
            self.settle()
        events = [each.json["event_id"] for each in self.port.take()]
        self.assertEqual((events[0], events[-1]), ("u", "g"))

    def test_more_than_fits_at_once(self) -> None:
        """Beyond the limit messages wait for their turn; none is lost."""
        self.patch(manager, "MOST_AT_ONCE", 2)
        self.kill()
        self.database.held = True
        waiting = [
            self.port.arrive(
                f"{DEVICE}/twin/update", {"twin": {"label": {"actual": {"value": str(n)}}}}
            )
            for n in range(9)
        ]
        self.settle()
        while self.database.waiting:
            self.database.run()
            self.settle()
        for each in waiting:
            assert each is not None
            self.successResultOf(each)

    def test_stop(self) -> None:
        """A stop leaves nothing behind."""
        self.report(threshold="29")
        self.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])


class AwayTests(TwinCase):
    """The cloud is away, the process dies."""

    def setUp(self) -> None:
        super().setUp()
        self.push_object(model_object(maximum="100000"), "insert")
        self.push_object(device_object(), "insert")

    def away(self) -> None:
        self.cloud.errors = [ConnectionRefusedError("away")] * 3
        self.cloud.channel.lose()
        self.settle()

    def back(self) -> None:
        self.cloud.errors = []
        self.clock.advance(60)
        self.settle()

    def test_43(self) -> None:
        """A value reported while the cloud is away arrives when it is back."""
        self.away()
        self.report(temperature="42")
        self.report(temperature="43", label="warm")
        self.arrive(f"{DEVICE}/state/update", {"state": "online"})
        self.back()
        reports = {each.route.resource: each for each in self.reports()}
        values = twin_values(reports[f"device/{THERMO}/twin/edge_updated"])
        self.assertEqual(values, {"temperature": {"actual": "43"}, "label": {"actual": "warm"}})
        self.assertIn(f"device/{THERMO}/state/update", reports)
        self.assertEqual(len(reports), 3, "and the question for members")

    def test_43_after_a_kill(self) -> None:
        """Also if the edge was killed meanwhile, and reported more before the cloud came back."""
        self.away()
        self.report(temperature="43")
        self.cloud.hanging = None
        self.kill()
        self.report(label="warm")
        found: dict[str, Any] = {}
        for each in self.reports():
            if each.route.operation == "update":
                found |= twin_values(each)
        self.assertEqual(found, {"temperature": {"actual": "43"}, "label": {"actual": "warm"}})

    def test_answers_offline(self) -> None:
        """Everything is answered while the cloud is away."""
        self.away()
        result, document = self.report(temperature="42")
        self.assertIn("result", result.topic)
        self.assertIn("document", document.topic)
        self.assertEqual(self.values(), {"temperature": (None, "42")})

    def test_versions_after_a_kill(self) -> None:
        """A restart keeps values, times and versions."""
        self.report(temperature="42")
        self.report(temperature="42")
        before = self.twins()
        self.kill()
        self.assertEqual(self.twins(), before)
        self.report(temperature="43")
        report = [each for each in self.reports() if each.route.operation == "update"][-1]
        version = report.read()["twin"]["temperature"]["actual_version"]
        self.assertEqual(version, {"cloud": 0, "edge": 3})

    def test_acknowledged_means_stored(self) -> None:
        """Killed at any moment, what was acknowledged is there, with its report."""
        for moment in range(12):
            self.database.held = True
            self.cloud.channel.is_writable = False
            value = str(1000 + moment)
            done = self.port.arrive(
                f"{DEVICE}/twin/update", {"twin": {"temperature": {"actual": {"value": value}}}}
            )
            self.settle()
            for _ in range(moment):
                if self.database.waiting:
                    self.database.run()
                    self.settle()
            assert done is not None
            acknowledged = done.called
            self.kill()
            if acknowledged:
                self.assertEqual(self.values()["temperature"], (None, value))
                newest = [each for each in self.reports() if each.route.operation == "update"][-1]
                self.assertEqual(twin_values(newest)["temperature"], {"actual": value})
        self.assertEqual(self.values()["temperature"], (None, "1011"))

    def test_killed_before_the_twin_heard(self) -> None:
        """MetaManager has acknowledged a Device and the process dies: it is taken in at start."""
        self.database.held = True
        self.receive(
            push(
                "update",
                "default/device/thermo",
                device_object({"threshold": "30"}, version="11"),
                source="devicecontroller",
            )
        )
        self.database.run()  # MetaManager's commit; DeviceTwin's is lost
        self.settle()
        self.kill()
        self.assertEqual(self.values(), {"threshold": ("30", None)})

    def test_a_store_full_of_news(self) -> None:
        """More devices to take in at the start than an inbox holds: it starts, all are told."""
        self.database.held = False
        for n in range(700):
            content = device_object({"label": "x"}, name=f"d{n}", uid=f"u{n}")
            self.successResultOf(
                self.store.put(f"default/device/d{n}", "device", json.dumps(content).encode())
            )
        self.kill()
        for _ in range(20):
            self.settle()
        self.assertEqual(self.devices.devices, 701)
        notices = [each for each in self.port.take() if each.topic.endswith("membership/updated")]
        self.assertEqual(len(notices), 700)

    def test_deleted_before_the_twin_heard(self) -> None:
        """The same with a deletion."""
        self.database.held = True
        self.receive(
            push("delete", "default/device/thermo", device_object(), source="devicecontroller")
        )
        self.database.run()
        self.settle()
        self.kill()
        (answer,) = self.arrive(f"{DEVICE}/twin/get", {"event_id": "e"})
        self.assertEqual(answer.json["code"], 404)

    def test_reports_of_a_removed_device(self) -> None:
        """What the cloud was to hear of a device that is gone is dropped with it."""
        self.away()
        self.report(temperature="42")
        self.arrive(f"{DEVICE}/state/update", {"state": "online"})
        self.back()
        self.assertEqual(len(self.outbox), 2)
        self.push_object(device_object(), "delete")
        self.assertEqual(len(self.outbox), 0)
        self.kill()
        self.assertEqual(len(self.outbox), 0)

    def test_many_properties(self) -> None:
        """A device of 200 properties: few messages, each property once, its newest value."""
        self.push_object(model_object(), "delete")
        self.away()
        for n in range(200):
            self.report(**{f"p{n}": "1"})
        for n in range(200):
            self.report(**{f"p{n}": "2"})
        self.assertEqual(len(self.outbox), 4)
        self.kill()
        self.report(p7="3", q="1")
        found: dict[str, Any] = {}
        reports = [each for each in self.reports() if each.route.operation == "update"]
        for each in reports:
            found |= twin_values(each)
        self.assertLess(len(reports), 7)
        self.assertEqual(len(found), 201)
        self.assertEqual(found["p7"], {"actual": "3"})
        self.assertEqual({each["actual"] for each in found.values()}, {"1", "2", "3"})
        for each in reports:
            self.confirm(each)
        self.confirm_all()
        self.assertEqual(len(self.outbox), 0)


class MembershipTests(TwinCase):
    """Who is on this node."""

    def test_came_and_went(self) -> None:
        """One notice for each device, as the cloud described it."""
        first, second = self.members(THERMO, "default/lamp")
        self.assertEqual(first.json["added_devices"], [{"id": THERMO, "name": "thermo"}])
        self.assertIsNone(first.json["removed_devices"])
        self.assertEqual(second.json["added_devices"][0]["name"], "lamp")
        self.assertEqual(self.members(THERMO), [], "it is known")
        (notice,) = self.members(removed=(THERMO, "default/unknown"))
        self.assertEqual(notice.json["removed_devices"], [{"id": THERMO, "name": "thermo"}])
        self.assertIsNone(notice.json["added_devices"])

    def test_object_first(self) -> None:
        """An object makes a device a member, its deletion ends that; the notices come once."""
        (notice,) = self.push_object(device_object(), "insert")
        self.assertEqual(notice.json["added_devices"], [{"id": THERMO, "name": "thermo"}])
        self.assertEqual(self.members(THERMO), [])
        (notice,) = self.push_object(device_object(), "delete")
        self.assertEqual(notice.json["removed_devices"], [{"id": THERMO, "name": "thermo"}])
        self.assertEqual(self.members(removed=(THERMO,)), [])

    def test_cloud_that_is_behind(self) -> None:
        """A device whose object is here is not taken away by a cloud that has not heard of it."""
        self.push_object(device_object({"threshold": "30"}), "insert")
        content = {"event_id": "c", "timestamp": 1, "devices": []}
        self.receive(
            push("update", "membership/detail", content, source="devicecontroller", group="twin")
        )
        self.assertEqual(self.members(removed=(THERMO,)), [])
        (answer,) = self.arrive("$hw/events/node/edge-1/membership/get", {"event_id": "e"})
        self.assertEqual([each["id"] for each in answer.json["devices"]], [THERMO])

    def test_known_after_a_kill(self) -> None:
        """A restart without the cloud still knows the devices."""
        self.members(THERMO, "default/lamp")
        self.cloud.errors = [ConnectionRefusedError("away")]
        self.kill()
        (answer,) = self.arrive("$hw/events/node/edge-1/membership/get", {"event_id": "e"})
        self.assertEqual(
            answer.json["devices"],
            [{"id": THERMO, "name": "thermo"}, {"id": "default/lamp", "name": "lamp"}],
        )

    def test_full_list(self) -> None:
        """A full list adds what is new and removes what it does not have."""
        self.members(THERMO, "default/lamp")
        self.port.take()
        content = {
            "event_id": "c",
            "timestamp": 1,
            "devices": [{"id": THERMO}, {"id": "default/fan"}],
        }
        self.receive(
            push("update", "membership/detail", content, source="devicecontroller", group="twin")
        )
        added, removed = self.port.take()
        self.assertEqual(added.json["added_devices"], [{"id": "default/fan"}])
        self.assertEqual(removed.json["removed_devices"], [{"id": "default/lamp"}])

    def test_asked_at_connection(self) -> None:
        """At every connection the cloud is asked once who is here, in upstream's words."""
        (question,) = self.reports()
        route = question.route
        self.assertEqual(
            (route.source, route.group, route.operation, route.resource),
            ("twin", "resource", "get", "membership/detail"),
        )
        content = json.loads(question.read())
        self.assertEqual(
            list(content), ["event_type", "event_id", "group_id", "operation", "timestamp"]
        )
        self.assertEqual(content["group_id"], "edge-1")
        self.clock.advance(600)
        self.assertEqual(self.reports(), [], "nobody has to answer")
        self.cloud.channel.lose()
        self.clock.advance(60)
        self.assertEqual(len(self.reports()), 1)

    def test_attributes(self) -> None:
        """Attributes come with members and later; apps hear the differences."""
        device = {
            "id": THERMO,
            "name": "thermo",
            "attributes": {"site": {"value": "hall", "metadata": {"type": "string"}}},
        }

        def tell(resource: str, content: Any, operation: str = "update") -> list[Any]:
            self.port.take()
            self.receive(
                push(operation, resource, content, source="devicecontroller", group="twin")
            )
            return self.port.take()

        changed, notice = tell("membership", {"added_devices": [device]})
        self.assertEqual(changed.topic, f"{DEVICE}/updated")
        full = {"value": "hall", "optional": True, "metadata": {"type": "string"}}
        self.assertEqual(changed.json["attributes"], {"site": full})
        self.assertEqual(notice.json["added_devices"][0]["attributes"]["site"]["value"], "hall")
        content = {
            "event_id": "a",
            "attributes": {"site": {"value": "roof"}, "row": {"value": "3"}},
        }
        (changed,) = tell(f"device/{THERMO}", content, "updated")
        self.assertEqual(changed.json["event_id"], "a")
        self.assertEqual(changed.json["attributes"]["site"], {"value": "roof"})
        (changed,) = tell(f"device/{THERMO}", {"attributes": {"row": None}}, "updated")
        self.assertEqual(changed.json["attributes"], {"row": None})
        self.kill()
        (members,) = self.arrive("$hw/events/node/n/membership/get", {})
        attributes = members.json["devices"][0]["attributes"]
        self.assertEqual(attributes, {"site": {**full, "value": "roof"}})
        (changed,) = tell("membership", {"added_devices": [{"id": THERMO}]})
        self.assertEqual(changed.json["attributes"], {"site": None})

    def test_nonsense(self) -> None:
        """Messages that make no sense change nothing and are counted."""
        self.members(THERMO)
        for operation, resource, content, source in (
            ("update", "membership", "{", "devicecontroller"),
            ("update", "membership", {"added_devices": [{}]}, "devicecontroller"),
            ("update", "membership", {"added_devices": {}}, "devicecontroller"),
            ("update", "membership", [1], "devicecontroller"),
            ("update", "membership/detail", {}, "devicecontroller"),
            ("update", "membership/detail", None, "edgemgr"),
            ("update", "elsewhere", {}, "devicecontroller"),
            ("updated", f"device/{THERMO}", {"attributes": 3}, "devicecontroller"),
            ("update", f"device/{THERMO}/twin/cloud_updated", {"twin": 3}, "devicecontroller"),
            ("update", "membership", {"removed_devices": [{"id": THERMO}]}, "somebody"),
        ):
            before = self.devices.refused
            self.receive(push(operation, resource, content, source=source, group="twin"))
            self.assertEqual(self.devices.refused, before + 1, (resource, content))
        (answer,) = self.arrive("$hw/events/node/n/membership/get", {})
        self.assertEqual(len(answer.json["devices"]), 1)


class OldCloudTests(TwinCase):
    """A cloud that sends twins with versions (KubeEdge up to 1.14)."""

    def setUp(self) -> None:
        super().setUp()
        device = {
            "id": THERMO,
            "name": "thermo",
            "twin": {
                "threshold": {
                    "expected": {"value": "30"},
                    "optional": False,
                    "metadata": {"type": "int"},
                    "expected_version": {"cloud": 5, "edge": 0},
                }
            },
        }
        self.receive(
            push(
                "update",
                "membership",
                {"added_devices": [device]},
                source="devicecontroller",
                group="twin",
            )
        )
        self.first = self.port.take()
        self.reports()

    def sync(self, threshold: Any, resource: str = f"device/{THERMO}") -> list[Any]:
        self.port.take()
        self.receive(
            push(
                "update",
                f"{resource}/twin/cloud_updated",
                {"event_id": "c", "timestamp": 1, "twin": {"threshold": threshold}},
                source="devicecontroller",
                group="twin",
            )
        )
        return self.port.take()

    def wish(self, value: str, cloud: int, edge: int) -> list[Any]:
        return self.sync(
            {
                "expected": {"value": value},
                "metadata": {"type": "int"},
                "expected_version": {"cloud": cloud, "edge": edge},
            }
        )

    def test_added(self) -> None:
        """Twins come with the membership: document and delta, then the notice."""
        document, delta, notice = self.first
        self.assertEqual(document.json["twin"]["threshold"]["last"], None)
        self.assertEqual(delta.json["delta"], {"threshold": "30"})
        twin = notice.json["added_devices"][0]["twin"]["threshold"]
        self.assertNotIn("expected_version", twin)

    def test_accepted(self) -> None:
        """A newer wish: document and delta, no result, nothing to the cloud."""
        document, delta = self.wish("40", 6, 0)
        self.assertEqual(document.json["event_id"], "c")
        self.assertEqual(delta.json["delta"], {"threshold": "40"})
        self.assertEqual(self.reports(), [])

    def test_older_cloud_version(self) -> None:
        """An older wish changes nothing; the cloud hears what is."""
        (delta,) = self.wish("40", 4, 0)
        self.assertEqual(delta.json["delta"], {"threshold": "30"})
        (report,) = self.reports()
        entry = report.read()["twin"]["threshold"]
        self.assertEqual(entry["expected"]["value"], "30")
        self.assertEqual(entry["expected_version"], {"cloud": 5, "edge": 0})

    def test_older_edge_version(self) -> None:
        """A wish that has not seen an edit at the edge loses, and hears of it."""
        self.arrive(f"{DEVICE}/twin/update", {"twin": {"threshold": {"expected": {"value": "35"}}}})
        self.reports()
        self.wish("40", 6, 0)
        self.assertEqual(self.values(), {"threshold": ("35", None)})
        report = self.reports()[-1]
        entry = report.read()["twin"]["threshold"]
        self.assertEqual(entry["expected_version"], {"cloud": 5, "edge": 1})
        self.wish("40", 6, 1)
        self.assertEqual(self.values(), {"threshold": ("40", None)})

    def test_deleted(self) -> None:
        """The cloud deletes a twin; a null of an app does not, if it is not optional."""
        result, *_ = self.arrive(f"{DEVICE}/twin/update", {"twin": {"threshold": None}})
        self.assertEqual(result.json["twin"], {})
        (document,) = self.sync({"metadata": {"type": "deleted"}})
        self.assertIsNone(document.json["twin"]["threshold"]["current"])
        self.assertEqual(self.values(), {})

    def test_without_metadata_or_version(self) -> None:
        """Upstream's edge dies of the first; neither changes anything."""
        self.sync({"expected": {"value": "40"}})
        self.sync(None)
        self.assertEqual(self.values(), {"threshold": ("30", None)})

    def test_unknown_device(self) -> None:
        """An unknown device is answered with 404."""
        (answer,) = self.sync(None, "device/default/nope")
        self.assertEqual(answer.topic, "$hw/events/device/default/nope/twin/update/result")
        self.assertEqual(answer.json["code"], 404)

    def test_from_an_app(self) -> None:
        """The same message by MQTT, as upstream has it."""
        content = {"threshold": {"expected": {"value": "40"}, "expected_version": {"cloud": 9}}}
        self.arrive(f"{DEVICE}/twin/cloud_updated", {"twin": content})
        self.assertEqual(self.values(), {"threshold": ("40", None)})
        (answer,) = self.arrive(f"{DEVICE}/twin/cloud_updated", "x")
        self.assertEqual(answer.json["code"], 400)
        (answer,) = self.arrive("$hw/events/device/a/b/twin/cloud_updated", {"twin": {}})
        self.assertEqual(answer.json["code"], 404)
