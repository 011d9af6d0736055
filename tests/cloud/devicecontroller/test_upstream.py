"""What devices report: into the cluster, judged, once, and confirmed."""

from __future__ import annotations

import itertools
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kubeedge_tx.api.resources import DEVICEMODELS, DEVICES, DEVICESTATUSES, EVENTS
from tests.cloud.devicecontroller.rig import DeviceControllerCase, device, model, twin
from tests.cloud.rig import NOW, read
from tests.fakes.kube import conflict, kube_error, unreachable


class UpstreamCase(DeviceControllerCase):
    def setUp(self) -> None:
        super().setUp()
        self.kube.put(DEVICEMODELS, model())
        self.kube.put(DEVICES, device())
        self.wait()
        self.bus.take()
        self.kube.calls.clear()

    def events(self) -> list[tuple[str, str]]:
        return [(each["reason"], each["message"]) for each in self.kube.all(EVENTS)]


class StatusTests(UpstreamCase):
    def test_made_with_the_device(self) -> None:
        """A device has an empty DeviceStatus of its own from the start."""
        found = self.kube.peek(DEVICESTATUSES, "default", "thermo")
        assert found is not None
        owner = self.kube.peek(DEVICES, "default", "thermo")
        assert owner is not None
        (reference,) = found["metadata"]["ownerReferences"]
        self.assertEqual(
            {key: reference[key] for key in ("apiVersion", "kind", "name", "uid")},
            {
                "apiVersion": "devices.kubeedge.io/v1beta1",
                "kind": "Device",
                "name": "thermo",
                "uid": owner["metadata"]["uid"],
            },
        )
        self.assertEqual(found["status"], {})

    def test_first_report(self) -> None:
        """The first report of a property arrives whole, at once, and is confirmed."""
        report = self.report(temperature=twin("23", at=1795503197767))
        self.assertEqual(
            self.status()["twins"],
            [
                {
                    "propertyName": "temperature",
                    "reported": {
                        "value": "23",
                        "metadata": {"timestamp": "1795503197767", "type": "int"},
                    },
                    "observedDesired": {"value": ""},
                }
            ],
        )
        self.assertEqual(self.status()["extensions"], {"reported": "temperature=23"})
        (answer,) = self.bus.take()
        route = answer.route
        self.assertEqual(answer.header.parent_id, report)
        self.assertEqual((route.source, route.group), ("devicecontroller", "twin"))
        self.assertEqual((route.operation, route.resource), ("response", "node/edge-1/twin"))
        self.assertEqual(read(answer), "OK")

    def test_both_sides(self) -> None:
        """What the edge wants and what the device says are two sides of a twin."""
        self.report(threshold=twin("49", expected="51"))
        self.assertEqual(self.twins(), {"threshold": ("49", "51")})
        self.wait()
        self.report(threshold=twin("50"))
        self.assertEqual(self.twins(), {"threshold": ("50", "51")})

    def test_state(self) -> None:
        """The state is written; when it was last online stays when it goes offline."""
        first = self.state("online", "2026-11-24T06:53:17Z")
        self.wait()
        second = self.say(
            "device/default/thermo/state/update",
            json.dumps({"Device": {"name": "thermo", "state": "Offline"}}),
        )
        self.assertEqual(self.status()["state"], "Offline")
        self.assertEqual(self.status()["lastOnlineTime"], "2026-11-24T06:53:17Z")
        self.assertEqual(self.answers(), {first: "OK", second: "OK"})

    def test_deleted_twin(self) -> None:
        """A twin that was deleted on the edge goes."""
        self.report(temperature=twin("1"), label=twin("x", kind="string"))
        self.wait()
        self.report(label=None)
        self.assertEqual(self.twins(), {"temperature": ("1", "")})
        self.wait()
        self.report(temperature={"metadata": {"type": "deleted"}})
        self.assertEqual(self.twins(), {})

    def test_nothing_wanted_any_more(self) -> None:
        """A side that comes with a version and no value has none any more."""
        self.report(threshold=twin("49", expected="51", edge=1))
        self.wait()
        cleared = {"metadata": {"type": "int"}, "expected_version": {"cloud": 7, "edge": 0}}
        self.report(threshold=cleared)
        (found,) = self.status()["twins"]
        self.assertEqual(found["observedDesired"], {"value": ""})
        self.assertEqual(found["reported"]["value"], "49")
        self.wait()
        self.writes()
        self.report(threshold=cleared | {"actual": {}})
        self.assertEqual(self.writes(), [])

    def test_property_leaves(self) -> None:
        """A property that leaves the device takes its twin along."""
        self.report(temperature=twin("1"), threshold=twin("2"))
        self.wait()
        self.kube.put(DEVICES, device(properties=("threshold",)))
        self.assertEqual(self.twins(), {"threshold": ("2", "")})

    def test_foreign_keys(self) -> None:
        """What others keep in the status stays."""
        found = self.kube.peek(DEVICESTATUSES, "default", "thermo")
        assert found is not None
        self.kube.put(
            DEVICESTATUSES, found | {"status": {"extensions": {"mine": 1}, "state": "ok"}}
        )
        self.report(temperature=twin("1"))
        self.assertEqual(self.status()["extensions"], {"mine": 1, "reported": "temperature=1"})
        self.assertEqual(self.status()["state"], "ok")

    def test_status_deleted(self) -> None:
        """A DeviceStatus that somebody deletes is made anew."""
        self.kube.drop(DEVICESTATUSES, "default", "thermo")
        self.wait()
        self.assertEqual(self.status(), {})
        self.wait()
        self.report(temperature=twin("1"))
        self.assertEqual(self.twins(), {"temperature": ("1", "")})

    def test_adopted(self) -> None:
        """A DeviceStatus that belongs to nobody becomes the device's."""
        found = self.kube.peek(DEVICESTATUSES, "default", "thermo")
        assert found is not None
        del found["metadata"]["ownerReferences"]
        self.kube.put(DEVICESTATUSES, found)
        self.report(temperature=twin("1"))
        found = self.kube.peek(DEVICESTATUSES, "default", "thermo")
        assert found is not None
        self.assertEqual(found["metadata"]["ownerReferences"][0]["name"], "thermo")


class WriteTests(UpstreamCase):
    def test_repeats(self) -> None:
        """The same value again costs nothing and is confirmed."""
        self.report(temperature=twin("23", at=1))
        self.assertEqual(self.writes(), ["patch devicestatuses"])
        for wait in (0, 0.5, 5, 5):
            self.wait(wait)
            again = self.report(temperature=twin("23", at=2))
            self.assertEqual(self.answers().get(again), "OK")
        self.assertEqual(self.writes(), [])

    def test_one_write_a_second(self) -> None:
        """Of many values within a second the first and the last are written."""
        ids = [self.report(temperature=twin(str(value), at=value)) for value in range(90)]
        self.assertEqual(self.answers(), {ids[0]: "OK"})
        self.assertEqual(self.writes(), ["patch devicestatuses"])
        self.assertEqual(self.twins(), {"temperature": ("0", "")})
        self.wait(0.99)
        self.assertEqual(self.writes(), [])
        self.wait(0.01)
        self.assertEqual(self.twins(), {"temperature": ("89", "")})
        self.assertEqual(self.answers(), dict.fromkeys(ids[1:], "OK"))
        self.assertEqual(self.writes(), ["patch devicestatuses"])

    def test_there_and_back(self) -> None:
        """A value that comes back before it is written is not written."""
        self.report(temperature=twin("1", at=1))
        self.writes()
        ids = [self.report(temperature=twin(v, at=n)) for n, v in enumerate(("2", "3", "1"), 2)]
        self.bus.take()
        self.wait()
        self.assertEqual(self.answers(), dict.fromkeys(ids, "OK"))
        self.assertEqual(self.writes(), [])

    def test_api_away(self) -> None:
        """While the cluster is away nothing is confirmed; the newest lands when it is back."""
        self.kube.fail_next("patch", unreachable(), times=3)
        ids = [self.report(temperature=twin("1", at=1))]
        self.wait(1)
        ids += [self.report(temperature=twin("2", at=2)), self.state("online")]
        self.assertEqual(self.answers(), {})
        for _ in range(20):
            self.wait(1)
        self.assertEqual(self.twins(), {"temperature": ("2", "")})
        self.assertEqual(self.status()["state"], "online")
        self.assertEqual(self.answers(), dict.fromkeys(ids, "OK"))
        self.assertEqual(self.writes(), ["patch devicestatuses"] * 4)

    def test_conflict(self) -> None:
        """A status that somebody else has written meanwhile is looked at again."""
        self.kube.fail_next("patch", conflict(DEVICESTATUSES, "thermo"))
        report = self.report(temperature=twin("1"))
        self.assertEqual(self.answers(), {})
        self.wait(1)
        self.assertEqual(self.twins(), {"temperature": ("1", "")})
        self.assertEqual(self.answers(), {report: "OK"})

    def somebody_writes(self, value: str) -> None:
        """Another cloud process writes what it was told."""
        found: dict[str, Any] = self.kube.peek(DEVICESTATUSES, "default", "thermo") or {}
        found["status"]["twins"][0]["reported"]["value"] = value
        self.kube.put(DEVICESTATUSES, found)

    def test_written_by_another_cloud(self) -> None:
        """What came later through another cloud stays, when the node is connected there."""
        self.report(temperature=twin("1", at=1))
        self.answers()
        self.wait()
        self.somebody_writes("9")
        self.sessions.elsewhere = {"edge-1"}
        self.report(temperature=twin("2", at=2))
        self.wait()
        self.assertEqual(self.twins(), {"temperature": ("9", "")})
        self.assertEqual(self.answers(), {})
        self.sessions.elsewhere = set()
        again = self.report(temperature=twin("3", at=3))
        self.wait()
        self.assertEqual(self.twins(), {"temperature": ("3", "")})
        self.assertEqual(self.answers(), {again: "OK"})

    def test_written_by_another_cloud_meanwhile(self) -> None:
        """So it does when a conflict is how we hear of it."""
        self.report(temperature=twin("1", at=1))
        self.wait()
        self.kube.fail_next("patch", conflict(DEVICESTATUSES, "thermo"))
        self.sessions.elsewhere = {"edge-1"}

        def meanwhile(call: Any) -> None:
            if call.verb == "get":
                self.kube.before = None
                self.somebody_writes("9")

        self.kube.before = meanwhile
        self.report(temperature=twin("2", at=2))
        self.wait()
        self.wait()
        self.assertEqual(self.twins(), {"temperature": ("9", "")})

    def test_looks(self) -> None:
        """Whose the node is costs a look after somebody else has written, and else nothing."""
        for value in range(5):
            self.report(temperature=twin(str(value), at=value))
            self.wait()
        self.assertEqual(len(self.sessions.looks), 0)
        self.somebody_writes("9")
        for value in range(5):
            self.report(temperature=twin(str(value), at=5 + value))
            self.wait()
        self.assertEqual(len(self.sessions.looks), 1)

    def test_gone_while_writing(self) -> None:
        """A status that vanishes under a write is made anew with what was to be written."""
        self.kube.hold()
        report = self.report(temperature=twin("1"))
        self.kube.drop(DEVICESTATUSES, "default", "thermo")
        self.kube.fail_next("patch", kube_error(404, "NotFound", "gone"))
        self.kube.release()
        for _ in range(3):
            self.wait(1)
        self.report(temperature=twin("1", at=9))
        self.assertIn(report, self.answers())

    def test_refused_by_the_cluster(self) -> None:
        """What the cluster will never take is not tried again, and the edge is told."""
        self.kube.fail_next("patch", kube_error(422, "Invalid", "too long"))
        report = self.report(temperature=twin("1"))
        self.assertEqual(self.answers(), {report: "refused by the cluster: Invalid"})
        self.wait(2)
        report = self.report(temperature=twin("2", at=2))
        self.assertEqual(self.answers(), {report: "OK"})

    def test_event_refused(self) -> None:
        """That no Event can be made holds up no report."""
        self.kube.fail_next("create", kube_error(403, "Forbidden", "no"), kind=EVENTS, times=9)
        reports = [self.report(temperature=twin("1000")), self.state("ok")]
        for at in range(2, 5):
            self.wait()
            reports.append(self.report(temperature=twin(str(at), at=at)))
        self.wait()
        answers = self.answers()
        self.assertEqual(set(answers), set(reports))
        self.assertEqual(self.twins(), {"temperature": ("4", "")})

    def test_stopped(self) -> None:
        """What is not written when the cloud stops is not confirmed."""
        self.report(temperature=twin("1", at=1))
        self.bus.take()
        self.report(temperature=twin("2", at=2))
        self.run_now(self.controller.stopped())
        self.wait(10)
        self.assertEqual(self.answers(), {})
        self.assertEqual(self.twins(), {"temperature": ("1", "")})

    @given(st.lists(st.tuples(st.integers(0, 8), st.floats(0, 2)), min_size=1, max_size=40))
    def test_bounded(self, steps: list[tuple[int, float]]) -> None:
        """The newest value always lands, every report is confirmed, a write a second at most."""
        self.wait(10)
        self.bus.take()
        self.kube.calls.clear()
        began = self.clock.seconds()
        times: list[float] = []
        self.kube.before = lambda call: (
            times.append(self.clock.seconds()) if call.verb in ("patch", "create") else None
        )
        ids = set()
        for value, pause in steps:
            ids.add(self.report(temperature=twin(str(value), at=value)))
            self.wait(pause)
        self.wait(1)
        self.assertEqual(self.twins()["temperature"][0], str(steps[-1][0]))
        self.assertEqual(set(self.answers()), ids)
        self.assertTrue(all(b - a >= 0.999 for a, b in itertools.pairwise(times)), times)
        self.assertLessEqual(len(times), self.clock.seconds() - began + 1)
        self.kube.before = None

    @given(st.lists(st.sampled_from(["value", "fail", "conflict", "touch", "wait"]), max_size=30))
    def test_trouble(self, steps: list[str]) -> None:
        """With failures, conflicts and others' writes the newest lands once all is well."""
        newest, ids = "0", set()
        ids.add(self.report(temperature=twin("0")))
        for number, step in enumerate(steps):
            if step == "value":
                newest = str(number)
                ids.add(self.report(temperature=twin(newest, at=number)))
            elif step == "fail":
                self.kube.fail_next("patch", unreachable())
            elif step == "conflict":
                self.kube.fail_next("patch", conflict(DEVICESTATUSES, "thermo"))
            elif step == "touch":
                found = self.kube.peek(DEVICESTATUSES, "default", "thermo")
                assert found is not None
                found["metadata"]["annotations"] = {"n": str(number)}
                self.kube.put(DEVICESTATUSES, found)
            else:
                self.wait(1)
        self.kube._failing.clear()
        for _ in range(70):
            self.wait(1)
        self.assertEqual(self.twins()["temperature"][0], newest)
        self.assertLessEqual(ids, set(self.answers()))


class DeadbandTests(UpstreamCase):
    deadband = 3.0

    def setUp(self) -> None:
        super().setUp()
        self.controller.reconfigure(report_window=1.0, deadband=0.5)

    def test_small_changes(self) -> None:
        """Small changes of a number are confirmed and not written, until they add up."""
        self.kube.put(DEVICEMODELS, model("m", {"name": "temperature", "type": "FLOAT"}))
        self.kube.put(DEVICES, device(properties=("temperature",)))
        for _ in range(5):
            self.wait()
        self.bus.take()
        self.writes()
        values = ("20.0", "20.5", "19.5", "20.6", "20.2")
        for at, value in enumerate(values):
            report = self.report(temperature=twin(value, at=at, kind="float"))
            self.wait()
            self.assertEqual(self.answers(), {report: "OK"})
        self.assertEqual(self.writes(), ["patch devicestatuses"] * 2)
        self.assertEqual(self.twins(), {"temperature": ("20.6", "")})


class JudgeTests(UpstreamCase):
    def test_out_of_range(self) -> None:
        """A value out of the model's range is not shown as reported; why is said in two places."""
        self.report(temperature=twin("23"))
        self.bus.take()
        self.wait()
        report = self.report(temperature=twin("1000", at=2), threshold=twin("5"))
        self.assertEqual(self.twins(), {"temperature": ("23", ""), "threshold": ("5", "")})
        text = "'1000': the value of temperature is above the maximum 100 of the model"
        self.assertEqual(
            self.status()["extensions"]["problems"],
            [
                {
                    "property": "temperature",
                    "about": "reported",
                    "reason": "OutOfRange",
                    "message": text,
                    "time": NOW,
                }
            ],
        )
        self.assertEqual(self.answers(), {report: f"temperature: {text}"})
        self.wait()
        self.assertEqual(self.events(), [("OutOfRange", f"reported temperature: {text}")])
        event = self.kube.all(EVENTS)[0]
        self.assertEqual(event["involvedObject"]["kind"], "Device")
        self.assertEqual(event["involvedObject"]["name"], "thermo")
        self.assertEqual(event["type"], "Warning")
        self.wait()
        self.report(temperature=twin("24", at=3))
        self.assertEqual(self.problems(), [])

    def test_many_wrong_values(self) -> None:
        """A device that reports nonsense does not flood the cluster with Events."""
        for at in range(50):
            self.report(temperature=twin(str(1000 + at), at=at))
            self.wait()
        self.assertEqual(len(self.events()), 1)
        self.assertEqual(self.problems(), [("temperature", "reported", "OutOfRange")])

    def test_unknown_property(self) -> None:
        """A property that the device does not have is refused, until it has it."""
        report = self.report(color=twin("red", kind="string"))
        self.assertEqual(self.twins(), {})
        self.assertEqual(self.problems(), [("color", "reported", "UnknownProperty")])
        self.assertEqual(self.answers(), {report: "color: the Device lists no such property"})
        self.kube.put(DEVICEMODELS, model("m", {"name": "color", "type": "STRING"}))
        self.kube.put(DEVICES, device(properties=("color",)))
        self.wait()
        self.wait()
        self.assertEqual(self.problems(), [])

    def test_unknown_properties(self) -> None:
        """However many wrong names there are, the status stays small."""
        twins: dict[str, Any] = {f"p{n}{'x' * 1000}": twin("1") for n in range(500)}
        self.report(**twins)
        self.assertEqual(len(self.problems()), 16)
        self.assertLess(len(json.dumps(self.status())), 8192)
        self.assertLess(len(str(next(iter(self.answers().values())))), 1100)

    def test_wrong_type(self) -> None:
        """A text where the model wants a number, and control characters, are refused."""
        report = self.report(temperature=twin("warm"), label=twin("a\x00b", kind="string"))
        self.assertEqual(
            sorted(self.problems()),
            [("label", "reported", "BadValue"), ("temperature", "reported", "WrongType")],
        )
        self.assertNotEqual(self.answers()[report], "OK")
        self.assertEqual(self.twins(), {})

    def test_desire_of_read_only(self) -> None:
        """Nobody on the edge may want something of a property that is only read."""
        self.report(temperature=twin(expected="5"))
        self.assertEqual(self.problems(), [("temperature", "observedDesired", "ReadOnly")])
        self.assertEqual(self.twins(), {})

    def test_wrong_desires(self) -> None:
        """What the Device wants and its model forbids is said in the status, and with an Event."""
        self.kube.put(
            DEVICES,
            device(
                properties=("temperature", "threshold", "extra"),
                desired={"temperature": "1", "threshold": "101"},
            ),
        )
        self.assertEqual(
            sorted(self.problems()),
            [
                ("extra", "model", "UnknownProperty"),
                ("temperature", "desired", "ReadOnly"),
                ("threshold", "desired", "OutOfRange"),
            ],
        )
        self.wait(5)
        for _ in range(5):
            self.wait()
        self.assertEqual(
            {reason for reason, _ in self.events()}, {"UnknownProperty", "ReadOnly", "OutOfRange"}
        )
        self.kube.put(DEVICES, device(desired={"threshold": "100"}))
        self.wait()
        self.assertEqual(self.problems(), [])

    def test_model_changes(self) -> None:
        """Devices are judged anew when their model changes."""
        self.kube.put(DEVICES, device(desired={"threshold": "60"}))
        self.wait()
        self.kube.put(
            DEVICEMODELS,
            model(
                "m",
                *(
                    {"name": n, "type": "INT", "maximum": "50"}
                    for n in ("temperature", "threshold", "label")
                ),
            ),
        )
        self.assertEqual(self.problems(), [("threshold", "desired", "OutOfRange")])
        self.wait()
        self.kube.drop(DEVICEMODELS, "default", "m")
        self.wait()
        self.assertEqual(self.problems(), [("", "model", "NoModel")])

    def test_model_a_moment_late(self) -> None:
        """An Event says that a model is missing, but not when it comes a moment later."""
        for name, late in (("a", 3), ("b", 6)):
            self.kube.put(DEVICES, device(name, model=f"of-{name}"))
            for _ in range(late):
                self.wait()
            self.kube.put(DEVICEMODELS, model(f"of-{name}"))
            for _ in range(8):
                self.wait()
        (event,) = self.kube.all(EVENTS)
        self.assertEqual(event["reason"], "NoModel")
        self.assertEqual(event["involvedObject"]["name"], "b")

    def test_report_before_the_model(self) -> None:
        """Reports do not wait for the Event that says that the model is missing."""
        self.kube.put(DEVICES, device("early", model="late"))
        self.wait(1)
        report = self.report("early", temperature=twin("5"))
        self.assertEqual(self.answers(), {report: "OK"})

    def test_bad_state(self) -> None:
        """A state that is none is refused with the reason."""
        report = self.state("bogus")
        self.assertIn("one of offline, ok, online", self.answers()[report])
        self.assertNotIn("state", self.status())
        self.assertEqual(self.problems(), [("", "state", "WrongState")])
        self.wait()  # the Event
        self.state("ok")
        self.wait()
        self.assertEqual(self.problems(), [])

    def test_old_messages(self) -> None:
        """A report sent again after newer ones changes nothing; a clock set back does not block."""
        self.report(temperature=twin("2", at=20, edge=2))
        self.wait()
        old = self.report(temperature=twin("1", at=10, edge=1))
        self.assertEqual(self.answers()[old], "OK")
        self.wait()
        self.assertEqual(self.twins(), {"temperature": ("2", "")})
        self.report(temperature=twin("3", at=5, edge=3))  # the clock was set back
        self.wait()
        self.assertEqual(self.twins(), {"temperature": ("3", "")})
        self.report(temperature=twin("4", at=30, edge=1))  # the twin was made anew
        self.wait()
        self.assertEqual(self.twins(), {"temperature": ("4", "")})


class OwnTests(UpstreamCase):
    def refusal(self, report: str) -> Any:
        (answer,) = [m for m in self.bus.take() if m.header.parent_id == report]
        self.assertEqual(answer.route.operation, "error")
        self.assertTrue(answer.route.resource.endswith("/twin"))
        return read(answer)

    def test_another_nodes_device(self) -> None:
        """A node speaks for its own devices only; it is told that this is not one."""
        report = self.report(node="edge-2", temperature=twin("1"))
        removal = self.bus.sent[0]
        self.assertEqual(removal.route.resource, "node/edge-2/membership")
        self.assertEqual(
            read(removal)["removed_devices"], [{"id": "default/thermo", "name": "thermo"}]
        )
        self.assertIn("403 Forbidden", self.refusal(report))
        self.assertEqual(self.twins(), {})
        self.assertEqual(self.writes(), [])

    def test_unknown_device(self) -> None:
        """A device that nobody knows is refused in the words that another node's is."""
        report = self.report(name="nope", temperature=twin("1"))
        said = self.refusal(report).replace("nope", "NAME").replace("edge-1", "NODE")
        report = self.report(node="edge-2", temperature=twin("1"))
        theirs = self.refusal(report).replace("thermo", "NAME").replace("edge-2", "NODE")
        self.assertEqual(said, theirs)
        self.assertIn("403 Forbidden", said)
        self.assertEqual(self.writes(), [])

    def test_cluster_away(self) -> None:
        """Whether a device is there cannot be told: not confirmed, the edge comes again."""
        self.kube.fail_next("get", unreachable())
        self.report(name="nope", temperature=twin("1"))
        self.assertEqual(self.bus.take(), [])

    def test_nonsense(self) -> None:
        """Content and resources that make no sense are refused in words."""
        for content in ("{{{", [1], {"twin": {"temperature": 3}}, {"twin": 1}, 7, "7", "[" * 5000):
            report = self.say("device/default/thermo/twin/edge_updated", content)
            self.assertIn("400 BadRequest", self.refusal(report), content)
        for resource in (
            "device/thermo/twin/edge_updated",
            "device/a/b/c",
            "x",
            "device//b/state/update",
            "device/../b/state/update",
            "device/default/../state/update",
            "device/default/THERMO/state/update",
        ):
            self.assertIn("is not device/", self.refusal(self.say(resource, {})))
        self.assertEqual(self.writes(), [])

    def test_moved(self) -> None:
        """After a move the new node's reports count, whatever their versions."""
        self.report(temperature=twin("2", at=20, edge=20))
        self.kube.put(DEVICES, device(node="edge-2"))
        self.wait()
        self.report(node="edge-2", temperature=twin("1", at=1, edge=1))
        self.wait()
        self.assertEqual(self.twins(), {"temperature": ("1", "")})
        self.bus.take()
        self.assertIn("403", self.refusal(self.report(temperature=twin("3", at=30, edge=30))))


class GoneTests(UpstreamCase):
    def test_deleted_with_reports_waiting(self) -> None:
        """Reports of a device that is deleted before they are written are over."""
        self.report(temperature=twin("1"))
        self.bus.take()
        late = self.report(temperature=twin("2", at=2))
        self.kube.drop(DEVICES, "default", "thermo")
        self.wait(1)
        self.assertEqual(self.answers(), {late: "the device has been deleted"})
        self.assertEqual(self.kube.all(DEVICESTATUSES), [])

    def test_made_anew_starts_empty(self) -> None:
        """A device made anew does not show what the old one reported."""
        self.report(temperature=twin("1", at=9, edge=9))
        self.kube.drop(DEVICES, "default", "thermo")
        self.kube.put(DEVICES, device())
        self.wait(1)
        self.wait(1)
        self.assertEqual(self.twins(), {})
        self.wait(1)
        self.report(temperature=twin("2", at=1, edge=1))
        self.assertEqual(self.twins(), {"temperature": ("2", "")})

    def test_deleted_while_the_cloud_was_away(self) -> None:
        """The status of a device that is gone goes at the next start; others' stay."""
        own = {"metadata": {"namespace": "default", "name": "by-hand"}}
        self.kube.put(DEVICESTATUSES, own)
        self.run_now(self.controller.stopped())
        self.kube.drop(DEVICES, "default", "thermo")
        self.start()
        self.wait()
        self.assertEqual(
            [each["metadata"]["name"] for each in self.kube.all(DEVICESTATUSES)], ["by-hand"]
        )

    def test_made_anew_while_the_cloud_was_away(self) -> None:
        """The status of the former device of that name goes at the next start too."""
        self.report(temperature=twin("1"))
        self.run_now(self.controller.stopped())
        self.kube.drop(DEVICES, "default", "thermo")
        self.kube.put(DEVICES, device())
        self.start()
        for _ in range(3):
            self.wait()
        self.assertEqual(self.twins(), {})

    def test_deleting_fails(self) -> None:
        """A status that cannot be deleted now is deleted later."""
        self.kube.fail_next("delete", unreachable(), kind=DEVICESTATUSES)
        self.kube.drop(DEVICES, "default", "thermo")
        for _ in range(5):
            self.wait()
        self.assertEqual(self.kube.all(DEVICESTATUSES), [])


class TwoCloudsTests(DeviceControllerCase):
    """Any number of cloud processes work on one cluster."""

    def test_no_quarrel(self) -> None:
        """What one writes the other takes as it is; nothing is written back and forth."""
        first = self.controller
        self.start()
        self.kube.put(DEVICES, device(desired={"threshold": "101"}))
        self.kube.put(DEVICEMODELS, model())
        for _ in range(10):
            self.wait()
        self.assertEqual(self.problems(), [("threshold", "desired", "OutOfRange")])
        self.writes()
        for at, controller in enumerate((first, self.controller, first), 1):
            self.controller = controller
            self.report(temperature=twin(str(at), at=at))
            for _ in range(3):
                self.wait()
            self.assertEqual(self.twins(), {"temperature": (str(at), "")})
        self.assertEqual(self.writes(), ["patch devicestatuses"] * 3)
        self.kube.drop(DEVICES, "default", "thermo")
        for _ in range(3):
            self.wait()
        self.assertEqual(self.kube.all(DEVICESTATUSES), [])
        self.assertEqual(self.writes(), ["delete devicestatuses"])
