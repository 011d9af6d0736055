"""Devices and models to their nodes: what is sent, in which order, and what is not."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kubeedge_tx.api.resources import DEVICEMODELS, DEVICES, DEVICESTATUSES, NODES
from kubeedge_tx.cloud.devicecontroller.placements import Placements
from tests.cloud.devicecontroller.rig import DeviceControllerCase, device, model
from tests.cloud.rig import node, read
from tests.fakes.kube import FakeKube


def member(name: str = "thermo") -> dict[str, Any]:
    return {"id": f"default/{name}", "name": name}


class AddTests(DeviceControllerCase):
    def test_order(self) -> None:
        """A node hears that a device is its, then of its model, then of itself."""
        self.kube.put(DEVICEMODELS, model())
        self.kube.put(DEVICES, device())
        membership, first, second = self.bus.take()
        self.assertEqual(
            (membership.route.source, membership.route.group, membership.route.operation),
            ("devicecontroller", "twin", "update"),
        )
        self.assertEqual(membership.route.resource, "node/edge-1/membership")
        self.assertEqual(read(membership)["added_devices"], [member()])
        self.assertIsNone(read(membership)["removed_devices"])
        self.assertEqual(membership.header.resource_version, "")
        for message, kind, name in ((first, "devicemodel", "m"), (second, "device", "thermo")):
            self.assertEqual((message.route.group, message.route.operation), ("resource", "insert"))
            self.assertEqual(message.route.resource, f"node/edge-1/default/{kind}/{name}")
            obj = read(message)
            self.assertEqual(obj["apiVersion"], "devices.kubeedge.io/v1beta1")
            self.assertEqual(obj["kind"].lower(), kind)
            self.assertEqual(message.header.resource_version, obj["metadata"]["resourceVersion"])
            self.assertEqual(message.header.parent_id, "")

    def test_second_device_of_a_model(self) -> None:
        """A model goes once to a node, however many devices there are of it."""
        self.kube.put(DEVICEMODELS, model())
        self.kube.put(DEVICES, device("a"))
        self.bus.take()
        self.kube.put(DEVICES, device("b"))
        self.assertEqual(
            self.bus.brief(),
            ["update node/edge-1/membership", "insert node/edge-1/default/device/b"],
        )
        self.kube.put(DEVICES, device("c", node="edge-2"))
        self.assertIn("insert node/edge-2/default/devicemodel/m", self.bus.brief())

    def test_model_comes_later(self) -> None:
        """A device waits for its model, and is sent the moment there is one."""
        self.kube.put(DEVICES, device())
        self.assertEqual(self.bus.brief(), ["update node/edge-1/membership"])
        self.assertEqual(self.problems(), [("", "model", "NoModel")])
        self.kube.put(DEVICEMODELS, model())
        self.assertEqual(
            self.bus.brief(),
            [
                "insert node/edge-1/default/devicemodel/m",
                "insert node/edge-1/default/device/thermo",
            ],
        )
        self.wait()
        self.assertEqual(self.problems(), [])

    def test_no_node_no_model(self) -> None:
        """A device without a node is sent to nobody; one without a model goes alone."""
        self.kube.put(DEVICES, device(node=""))
        self.assertEqual(self.bus.take(), [])
        self.kube.put(DEVICES, device("alone", model=""))
        self.assertEqual(
            self.bus.brief(),
            ["update node/edge-1/membership", "insert node/edge-1/default/device/alone"],
        )

    def test_node_joins_later(self) -> None:
        """A node that joins, or joins again after it was deleted, gets its devices."""
        self.kube.put(DEVICEMODELS, model())
        self.kube.put(DEVICES, device(node="edge-9"))
        self.assertEqual(self.bus.take(), [])
        for _ in range(2):
            self.kube.put(NODES, node("edge-9"))
            self.assertEqual(
                self.bus.brief(),
                [
                    "update node/edge-9/membership",
                    "insert node/edge-9/default/devicemodel/m",
                    "insert node/edge-9/default/device/thermo",
                ],
            )
            self.kube.drop(NODES, "", "edge-9")
            self.assertEqual(self.bus.take(), [])

    def test_restart(self) -> None:
        """A new process tells everything once; CloudHub knows what was confirmed."""
        self.kube.put(DEVICEMODELS, model())
        self.kube.put(DEVICES, device("a"))
        self.kube.put(DEVICES, device("b"))
        self.run_now(self.controller.stopped())
        self.kube.calls.clear()
        self.start()
        # With these a Go edge that knows the device has nothing to say; without, an error.
        self.assertEqual(read(self.bus.sent[0])["added_devices"], [member("a") | {"twin": {}}])
        self.assertEqual(
            self.bus.brief(),
            [
                "update node/edge-1/membership",
                "insert node/edge-1/default/devicemodel/m",
                "insert node/edge-1/default/device/a",
                "update node/edge-1/membership",
                "insert node/edge-1/default/device/b",
            ],
        )
        self.assertEqual(self.writes(), [])


class ChangeTests(DeviceControllerCase):
    def setUp(self) -> None:
        super().setUp()
        self.kube.put(DEVICEMODELS, model())
        self.kube.put(DEVICES, device())
        self.bus.take()

    def test_spec(self) -> None:
        """A desired value that changes goes down within the device."""
        self.kube.put(DEVICES, device(desired={"threshold": "60"}))
        (message,) = self.bus.take()
        self.assertEqual(message.route.operation, "update")
        self.assertEqual(message.route.resource, "node/edge-1/default/device/thermo")
        self.assertEqual(read(message)["spec"]["properties"][1]["desired"], {"value": "60"})

    def test_nothing_but_spec(self) -> None:
        """Labels, and a status that somebody writes, are no news to the node."""
        self.kube.put(DEVICES, device(labels={"a": "b"}))
        self.kube.put(DEVICES, device(labels={"a": "b"}) | {"status": {"x": 1}})
        self.kube.put(DEVICEMODELS, model(labels={"a": "b"}))
        self.assertEqual(self.bus.take(), [])

    def test_status_never_goes_down(self) -> None:
        """What a device reports is written to the cluster and sent to nobody."""
        self.wait()
        report = self.report(temperature={"actual": {"value": "23"}})
        self.wait(5)
        self.assertEqual([m.header.parent_id for m in self.bus.take()], [report])

    def test_move(self) -> None:
        """A device leaves its old node before it comes to the new one."""
        self.kube.put(DEVICES, device(node="edge-2"))
        self.assertEqual(
            self.bus.brief(),
            [
                "update node/edge-1/membership",
                "delete node/edge-1/default/devicemodel/m",
                "delete node/edge-1/default/device/thermo",
                "update node/edge-2/membership",
                "insert node/edge-2/default/devicemodel/m",
                "insert node/edge-2/default/device/thermo",
            ],
        )
        self.kube.put(DEVICES, device(node="elsewhere"))
        removed = self.bus.take()
        self.assertEqual(read(removed[0])["removed_devices"], [member()])
        self.assertIsNone(read(removed[0])["added_devices"])
        self.assertEqual({m.route.resource.split("/")[1] for m in removed}, {"edge-2"})

    def test_other_model(self) -> None:
        """A device of another model: the new model first, the old one goes when unused."""
        self.kube.put(DEVICEMODELS, model("n"))
        self.bus.take()
        self.kube.put(DEVICES, device(model="n"))
        self.assertEqual(
            self.bus.brief(),
            [
                "insert node/edge-1/default/devicemodel/n",
                "update node/edge-1/default/device/thermo",
                "delete node/edge-1/default/devicemodel/m",
            ],
        )

    def test_model_changes(self) -> None:
        """A changed model goes to the nodes that use it, and only there."""
        self.kube.put(DEVICEMODELS, model("m", {"name": "temperature", "type": "FLOAT"}))
        self.assertEqual(self.bus.brief(), ["update node/edge-1/default/devicemodel/m"])

    def test_model_goes_and_comes(self) -> None:
        """A deleted model is taken from the node; when it is made anew all is sent that waited."""
        self.kube.drop(DEVICEMODELS, "default", "m")
        self.assertEqual(self.bus.brief(), ["delete node/edge-1/default/devicemodel/m"])
        self.kube.put(DEVICES, device(desired={"threshold": "3"}))
        self.assertEqual(self.bus.brief(), [])
        self.kube.put(DEVICEMODELS, model())
        self.assertEqual(
            self.bus.brief(),
            [
                "insert node/edge-1/default/devicemodel/m",
                "insert node/edge-1/default/device/thermo",
            ],
        )

    def test_delete(self) -> None:
        """A deleted device is taken from the node with its model, and its status goes."""
        self.kube.drop(DEVICES, "default", "thermo")
        removed, first, second = self.bus.take()
        self.assertEqual(read(removed)["removed_devices"], [member()])
        self.assertEqual(first.route.resource, "node/edge-1/default/devicemodel/m")
        self.assertEqual(second.route.resource, "node/edge-1/default/device/thermo")
        self.assertEqual({first.route.operation, second.route.operation}, {"delete"})
        self.assertEqual(read(second)["metadata"]["name"], "thermo")
        self.wait()
        self.assertEqual(self.kube.all(DEVICESTATUSES), [])

    def test_made_anew(self) -> None:
        """A device deleted and made anew under its name is another one: out, and in again."""
        old = self.kube.peek(DEVICESTATUSES, "default", "thermo")
        self.kube.drop(DEVICES, "default", "thermo")
        self.kube.put(DEVICES, device())
        self.assertEqual(
            self.bus.brief(),
            [
                "update node/edge-1/membership",
                "delete node/edge-1/default/devicemodel/m",
                "delete node/edge-1/default/device/thermo",
                "update node/edge-1/membership",
                "insert node/edge-1/default/devicemodel/m",
                "insert node/edge-1/default/device/thermo",
            ],
        )
        self.wait()
        self.wait()
        new = self.kube.peek(DEVICESTATUSES, "default", "thermo")
        assert old is not None and new is not None
        self.assertNotEqual(old["metadata"]["uid"], new["metadata"]["uid"])
        thermo = self.kube.peek(DEVICES, "default", "thermo")
        assert thermo is not None
        self.assertEqual(new["metadata"]["ownerReferences"][0]["uid"], thermo["metadata"]["uid"])


class MembershipTests(DeviceControllerCase):
    QUESTION = '{"event_type":"group_membership_event","event_id":"q","group_id":"edge-1"}'

    def ask(self, node: str = "edge-1") -> str:
        return self.say("membership/detail", self.QUESTION, node, op="get")

    def test_detail(self) -> None:
        """A node that connects gets the list of its devices, and its question is over."""
        self.kube.put(DEVICES, device("a", model=""))
        self.kube.put(DEVICES, device("b", model=""))
        self.kube.put(DEVICES, device("c", model="", node="edge-2"))
        self.bus.take()
        question = self.ask()
        detail, confirm = self.bus.take()
        # A Go edge drops a list with a parent, and takes a confirmation about membership for one.
        self.assertEqual(detail.header.parent_id, "")
        self.assertEqual(detail.route.resource, "node/edge-1/membership/detail")
        self.assertEqual((detail.route.group, detail.route.operation), ("twin", "update"))
        self.assertEqual(read(detail)["event_id"], "q")
        self.assertEqual(
            [each["id"] for each in read(detail)["devices"]], ["default/a", "default/b"]
        )
        self.assertEqual(confirm.header.parent_id, question)
        self.assertEqual(confirm.route.resource, "node/edge-1/twin")
        self.assertEqual((confirm.route.group, confirm.route.operation), ("twin", "response"))
        self.assertEqual(read(confirm), "OK")

    def test_no_device(self) -> None:
        """A node without devices is told so: it drops what it still has."""
        self.ask("edge-2")
        detail, _confirm = self.bus.take()
        self.assertEqual(read(detail)["devices"], [])


class UnsyncedTests(MembershipTests):
    """Before the first lists are in, an answer would take devices away."""

    synced = False

    def test_detail(self) -> None:
        """The question waits until all is known."""
        self.kube.put(DEVICES, device("a", model=""))
        self.ask()
        for informer in self.informers[:-1]:
            informer.sync()
            self.assertEqual(self.bus.take(), [])
        self.informers[-1].sync()
        details = [m for m in self.bus.take() if m.route.resource.endswith("membership/detail")]
        self.assertEqual(
            [each["id"] for m in details for each in read(m)["devices"]], ["default/a"]
        )

    def test_no_device(self) -> None:
        """The same for a node without any."""
        self.ask()
        self.assertEqual(self.bus.take(), [])


@st.composite
def worlds(draw: st.DrawFn) -> list[tuple[str, dict[str, Any]]]:
    """Devices and models that come, change, move, go and come anew."""
    steps: list[tuple[str, dict[str, Any]]] = []
    for _ in range(draw(st.integers(1, 25))):
        what = draw(st.sampled_from(["device", "device", "device", "model", "drop", "drop model"]))
        if what == "device":
            steps.append(
                (
                    what,
                    device(
                        draw(st.sampled_from("abc")),
                        node=draw(st.sampled_from(["", "edge-1", "edge-2", "edge-9"])),
                        model=draw(st.sampled_from(["", "m", "n"])),
                        properties=tuple(draw(st.sampled_from([("x",), ("y",), ("x", "y")]))),
                    ),
                )
            )
        elif what == "model":
            kind = draw(st.sampled_from(["INT", "STRING"]))
            steps.append((what, model(draw(st.sampled_from("mn")), {"name": "x", "type": kind})))
        else:
            name = draw(st.sampled_from("abc" if what == "drop" else "mn"))
            steps.append((what, {"name": name}))
    return steps


class ConvergenceTests(DeviceControllerCase):
    @given(worlds())
    def test_nodes_have_what_they_should(self, steps: list[tuple[str, dict[str, Any]]]) -> None:
        """Whatever happens, each node ends with its devices, their models, and nothing else."""
        self.kube = FakeKube()
        for name in self.nodes:
            self.kube.put(NODES, node(name))
        self.start()
        kinds = {
            "device": DEVICES,
            "model": DEVICEMODELS,
            "drop": DEVICES,
            "drop model": DEVICEMODELS,
        }
        for what, obj in steps:
            if not what.startswith("drop"):
                self.kube.put(kinds[what], obj)
            elif self.kube.peek(kinds[what], "default", obj["name"]) is not None:
                self.kube.drop(kinds[what], "default", obj["name"])
        held: dict[str, dict[str, Any]] = {}
        members: dict[str, set[str]] = {}
        for message in self.bus.take():
            _, node_, rest = message.route.resource.split("/", 2)
            content = read(message)
            if rest == "membership":
                ids = members.setdefault(node_, set())
                ids |= {each["id"] for each in content["added_devices"] or ()}
                ids -= {each["id"] for each in content["removed_devices"] or ()}
            elif message.route.operation == "delete":
                held.setdefault(node_, {}).pop(rest, None)
            else:
                held.setdefault(node_, {})[rest] = (content["metadata"]["uid"], content["spec"])
        models = {each["metadata"]["name"]: each for each in self.kube.all(DEVICEMODELS)}
        for node_ in self.nodes:
            should: dict[str, Any] = {}
            own = [d for d in self.kube.all(DEVICES) if d["spec"].get("nodeName") == node_]
            for each in own:
                name = each["spec"].get("deviceModelRef", {}).get("name")
                if name is not None and name in models:
                    used = models[name]
                    should[f"default/devicemodel/{name}"] = (used["metadata"]["uid"], used["spec"])
                if name is None or name in models:
                    key = f"default/device/{each['metadata']['name']}"
                    should[key] = (each["metadata"]["uid"], each["spec"])
            has = held.get(node_, {})
            self.assertEqual({key: has[key] for key in should}, should)
            # A device whose model was taken away stays as it was; nothing else may be left.
            left = {key for key in has if key not in should}
            waiting = {f"default/device/{d['metadata']['name']}" for d in own}
            self.assertLessEqual(left, waiting)
            self.assertEqual(
                members.get(node_, set()), {f"default/{d['metadata']['name']}" for d in own}
            )
        self.assertNotIn("edge-9", held)
        self.run_now(self.controller.stopped())


class PlacementTests(DeviceControllerCase):
    @given(
        st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(["", "x", "y"]), st.booleans()))
    )
    def test_index(self, steps: list[tuple[str, str, bool]]) -> None:
        """The index says what a look through all devices would."""
        index, devices = Placements(), {}
        for name, where, there in steps:
            if there:
                devices[name] = device(name, node=where, model=where)
                index.put(devices[name])
            else:
                devices.pop(name, None)
                index.drop(("default", name))
        for where in ("x", "y"):
            own = [name for name in devices if devices[name]["spec"].get("nodeName") == where]
            keys = {("default", name) for name in own}
            self.assertEqual(set(index.of_node(where)), keys)
            self.assertEqual(set(index.users(where, ("default", where))), keys)
            self.assertEqual(index.uses(where, ("default", where)), bool(own))
            self.assertEqual(index.nodes_using(("default", where)), [where] if own else [])
