from __future__ import annotations

import base64
import contextlib
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kubeedge_tx.beehive.message import Header, Message, Route, raw
from kubeedge_tx.errors import WireError
from kubeedge_tx.viaduct import codec
from tests.recordings import lines

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
MESSAGES = st.builds(
    Message,
    st.builds(
        Header,
        msg_id=st.text(),
        timestamp=st.integers(-(2**63), 2**63 - 1),
        parent_id=st.text(),
        resource_version=st.text(),
    ),
    st.builds(Route, st.text(), st.text(), st.text(), st.text()),
    JSON.map(raw),
)


def same(ours: bytes, theirs: dict[str, Any]) -> bool:
    """Compare what we write with what Go wrote: it always writes both parts and content."""
    mine = json.loads(ours)
    theirs = {**theirs, "content": theirs.get("content")}
    return bool(mine == theirs)


class RecordedTests(SynchronousTestCase):
    """What real KubeEdge peers said."""

    def check_session(self, name: str) -> int:
        count = 0
        for event in lines(name):
            if "message" not in event:
                continue
            theirs = event["message"]
            text = theirs if isinstance(theirs, str) else json.dumps(theirs)
            theirs = json.loads(text)
            message = codec.decode(text.encode())
            self.assertEqual(message.read(), theirs.get("content"))
            self.assertEqual(message.header.msg_id, theirs["header"]["msg_id"])
            self.assertTrue(same(codec.encode(message), theirs), theirs["route"])
            count += 1
        return count

    def test_session(self) -> None:
        """Every frame of a recorded session is read, and written back the same."""
        self.assertEqual(self.check_session("session-websocket.jsonl"), 117)

    def test_restart(self) -> None:
        """So is every frame of a session across a restart of the cloud."""
        self.assertGreater(self.check_session("session-restart.jsonl"), 100)

    def test_encoder(self) -> None:
        """What upstream's own encoder writes is read: escapes, byte strings, empty parts."""
        for line in lines("viaduct.jsonl"):
            message = codec.decode(line["ws_text"].encode())
            expected = line["message"]
            self.assertEqual(message.header.msg_id, expected["header"]["msg_id"])
            if line["content_kind"] == "bytes":
                self.assertEqual(
                    base64.b64decode(message.read()), bytes.fromhex(line["content_hex"])
                )
            else:
                self.assertEqual(message.read(), json.loads(line["ws_text"])["content"])


class DecodeTests(SynchronousTestCase):
    """The rules of Go's decoder, where they matter."""

    def test_null_is_nothing(self) -> None:
        """``null`` stands for an absent string, number or part."""
        message = codec.decode(
            b'{"header":{"msg_id":"a","timestamp":null,"parent_msg_id":null,"sync":null},'
            b'"route":null,"content":null}'
        )
        self.assertEqual(message.header, Header(msg_id="a", timestamp=0))
        self.assertEqual(message.route, Route())

    def test_empty_message(self) -> None:
        """``{}`` is an empty message."""
        self.assertEqual(codec.decode(b"{}").header, Header(msg_id="", timestamp=0))

    def test_letter_case(self) -> None:
        """Keys in another letter case are found."""
        message = codec.decode(
            b'{"Header":{"MSG_ID":"a","Timestamp":5},"ROUTE":{"Source":"s"},"Content":[1]}'
        )
        self.assertEqual((message.header.timestamp, message.route.source), (5, "s"))
        self.assertEqual(message.read(), [1])

    def test_unknown_keys(self) -> None:
        """Keys of a newer peer are ignored."""
        message = codec.decode(
            b'{"header":{"msg_id":"a","timestamp":1,"type":"x"},"route":{"destination":"y"},"z":{}}'
        )
        self.assertEqual(message.header.msg_id, "a")

    def test_whole_numbers_only(self) -> None:
        """A time with a fraction or an exponent is refused, as by Go."""
        for number in ("1.5", "1000.0", "1e3", '"1"', "true", "9" * 20):
            with self.assertRaises(WireError) as caught:
                codec.decode(b'{"header":{"msg_id":"a","timestamp":%s}}' % number.encode())
            self.assertIn("header.timestamp", str(caught.exception))

    def test_wrong_types(self) -> None:
        """The error names the field and never what stood in it."""
        for frame, field in (
            ('{"header":{"msg_id":{"secret":1},"timestamp":1}}', "header.msg_id"),
            ('{"header":"secret","route":{}}', "header"),
            ('{"header":{"msg_id":"a","timestamp":1},"route":{"resource":["secret"]}}', "resource"),
            ('{"header":{"msg_id":"a","timestamp":1,"sync":"secret"}}', "header.sync"),
        ):
            with self.assertRaises(WireError) as caught:
                codec.decode(frame.encode())
            self.assertIn(field, str(caught.exception))
            self.assertNotIn("secret", str(caught.exception))
            self.assertEqual(caught.exception.close_code, 4400)

    def test_too_big(self) -> None:
        """A frame above the limit is refused before it is looked at."""
        with self.assertRaises(WireError) as caught:
            codec.decode(b" " * (codec.MAX_FRAME_BYTES + 1))
        self.assertEqual(caught.exception.close_code, 4413)

    @given(st.binary(max_size=200))
    def test_garbage(self, frame: bytes) -> None:
        """Garbage raises WireError and nothing else."""
        with contextlib.suppress(WireError):
            codec.decode(frame)

    @given(JSON)
    def test_any_json(self, value: object) -> None:
        """Any JSON is a message or a WireError."""
        with contextlib.suppress(WireError):
            codec.decode(json.dumps(value).encode())

    @given(MESSAGES)
    def test_round_trip(self, message: Message) -> None:
        """What one side writes the other reads."""
        again = codec.decode(codec.encode(message))
        self.assertEqual((again.header, again.route), (message.header, message.route))
        self.assertEqual(again.read(), message.read())
