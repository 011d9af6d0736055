from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from tests.edge.devicetwin.twincase import TwinCase
from tests.edge.edgecase import push

GOLDEN = Path(__file__).parents[2] / "golden" / "mqtt-devices.jsonl"

class MqttStepsTests(TwinCase):
    node = "go-c"

    def test_show(self) -> None:
        for number, line in enumerate(GOLDEN.read_text().splitlines(), 1):
            step = json.loads(line)
            self.clock.advance(1)
            self.settle()
            self.port.take()
            if "publish" in step:
                p = step["publish"]
                seen = self.arrive(p["topic"], p["payload"])
            else:
                seen = self.kubectl(number, step)
            got=[{"topic": s.topic, "payload": s.json} for s in seen]
            want=[{"topic": s["topic"], "payload": s["payload"]} for s in step["seen"]]
            norm=lambda x: re.sub(r'"timestamp": \d+','"timestamp": 0',re.sub(r'"event_id": "[0-9a-f-]{36}"|"event_id": "event-\d+"','"event_id": "new"',json.dumps(x)))
            if norm(got)!=norm(want):
                print("\n",number, step["what"]); print("   GO  ",norm(want)[:1200]); print("   OURS",norm(got)[:1200])

    def kubectl(self, number: int, step: Any):
        out=[]
        if number==2: return self.push_object({**yaml.safe_load(step["stdin"]), "metadata":{"name":"m","namespace":"default","uid":"um","resourceVersion":"1"}},"insert")
        if number in(3,47,50):
            obj=yaml.safe_load(step["stdin"]); obj["metadata"].update(uid="ud",resourceVersion=str(number))
            if number==3: out+=self.members("default/thermo")
            return out+self.push_object(obj)
        if number in (52,55):
            return self.members(removed=("default/thermo",))
        if number==54: return self.members("default/thermo")
        return out
