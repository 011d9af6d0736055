"""Hypothesis strategies for MQTT packets and topics."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from kubeedge_tx.mqtt import packets as p
from kubeedge_tx.mqtt import properties as props
from kubeedge_tx.mqtt import reasons
from kubeedge_tx.mqtt.packets import V4, V5
from kubeedge_tx.mqtt.properties import NO_PROPERTIES, Properties

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
PLAIN = st.text(st.sampled_from("abzÄ漢 $.-\N{ZERO WIDTH NO-BREAK SPACE}"), max_size=8)
LEVELS = st.text(st.sampled_from("ab$ä "), max_size=3)
NAMES = st.lists(LEVELS, min_size=1, max_size=5).map("/".join).filter(bool)
FILTERS = st.builds(
    lambda levels, rest: "/".join([*levels, *rest]),
    st.lists(LEVELS | st.just("+"), min_size=1, max_size=4),
    st.sampled_from(([], ["#"])),
).filter(bool) | st.just("#")
BINARY = st.binary(max_size=40)
IDS = st.integers(1, 0xFFFF)
QOS = st.integers(0, 2)

_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "payload_format": st.integers(0, 1),
    "message_expiry": st.integers(0, 2**32 - 1),
    "content_type": TEXT,
    "response_topic": NAMES,
    "correlation_data": BINARY,
    "subscription_ids": st.lists(st.integers(1, props.MAX_VARINT), min_size=1, max_size=3).map(
        tuple
    ),
    "session_expiry": st.integers(0, 2**32 - 1),
    "assigned_client_id": TEXT,
    "server_keep_alive": st.integers(0, 0xFFFF),
    "authentication_method": TEXT,
    "authentication_data": BINARY,
    "request_problem_information": st.integers(0, 1),
    "will_delay": st.integers(0, 2**32 - 1),
    "request_response_information": st.integers(0, 1),
    "response_information": TEXT,
    "server_reference": TEXT,
    "reason_string": TEXT,
    "receive_maximum": IDS,
    "topic_alias_maximum": st.integers(0, 0xFFFF),
    "topic_alias": IDS,
    "maximum_qos": st.integers(0, 1),
    "retain_available": st.integers(0, 1),
    "user": st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=3).map(tuple),
    "maximum_packet_size": st.integers(1, 2**32 - 1),
    "wildcard_available": st.integers(0, 1),
    "subscription_id_available": st.integers(0, 1),
    "shared_available": st.integers(0, 1),
}


def value_of(name: str) -> st.SearchStrategy[Any]:
    """Values of one property."""
    return _VALUES[name]


def properties(kind: int, version: int, *without: str) -> st.SearchStrategy[Properties]:
    """Properties a packet may have; none in 3.1.1."""
    if version == V4:
        return st.just(NO_PROPERTIES)
    names = [
        name for name, allowed in props.ALLOWED.items() if kind in allowed and name not in without
    ]
    if kind == p.SUBSCRIBE:
        values = {**_VALUES, "subscription_ids": st.tuples(st.integers(1, props.MAX_VARINT))}
    else:
        values = _VALUES

    def whole(found: dict[str, Any]) -> Properties:
        if "authentication_data" in found:
            found.setdefault("authentication_method", "m")
        return Properties(**found) if found else NO_PROPERTIES

    return st.fixed_dictionaries({}, optional={name: values[name] for name in names}).map(whole)


def wills(version: int) -> st.SearchStrategy[p.Will]:
    """Wills."""
    return st.builds(
        p.Will,
        topic=NAMES,
        payload=BINARY,
        qos=QOS,
        retain=st.booleans(),
        properties=properties(props.WILL, version),
    )


def connects(version: int) -> st.SearchStrategy[p.Connect]:
    """CONNECT packets."""

    def make(credentials: tuple[str | None, bytes | None], **rest: Any) -> p.Connect:
        username, password = credentials
        if version == V4 and username is None:
            password = None
        return p.Connect(version=version, username=username, password=password, **rest)

    return st.builds(
        make,
        st.tuples(st.none() | TEXT, st.none() | BINARY),
        client_id=PLAIN,
        clean_start=st.booleans(),
        keep_alive=st.integers(0, 0xFFFF),
        will=st.none() | wills(version),
        properties=properties(p.CONNECT, version),
    )


def publishes(version: int) -> st.SearchStrategy[p.Publish]:
    """PUBLISH packets; without a topic only if there is an alias."""

    def make(
        topic: str, payload: bytes, qos: int, retain: bool, dup: bool, pid: int, found: Properties
    ) -> p.Publish:
        return p.Publish(topic, payload, qos, retain, dup and qos > 0, pid if qos else 0, found)

    return st.builds(
        make,
        NAMES,
        st.binary(max_size=300),
        QOS,
        st.booleans(),
        st.booleans(),
        IDS,
        properties(p.PUBLISH, version),
    )


def _acks(kind: int, made: Any, version: int) -> st.SearchStrategy[Any]:
    if version == V4:
        return st.builds(made, IDS)
    codes = st.sampled_from(sorted(reasons.ALLOWED[kind]))
    return st.builds(made, IDS, codes, properties(kind, version))


def subscriptions(version: int) -> st.SearchStrategy[p.Subscription]:
    """One filter with options."""
    if version == V4:
        return st.builds(p.Subscription, FILTERS, QOS)
    plain = st.builds(p.Subscription, FILTERS, QOS, st.booleans(), st.booleans(), st.integers(0, 2))
    shared = st.builds(
        p.Subscription,
        FILTERS.map(lambda each: f"$share/group/{each}"),
        QOS,
        st.just(False),
        st.booleans(),
        st.integers(0, 2),
    )
    return plain | shared


def from_client(version: int) -> st.SearchStrategy[p.Packet]:
    """All that a client may send."""
    kinds: list[st.SearchStrategy[Any]] = [
        connects(version),
        publishes(version),
        _acks(p.PUBACK, p.Puback, version),
        _acks(p.PUBREC, p.Pubrec, version),
        _acks(p.PUBREL, p.Pubrel, version),
        _acks(p.PUBCOMP, p.Pubcomp, version),
        st.builds(
            p.Subscribe,
            packet_id=IDS,
            subscriptions=st.lists(subscriptions(version), min_size=1, max_size=3).map(tuple),
            properties=properties(p.SUBSCRIBE, version),
        ),
        st.builds(
            p.Unsubscribe,
            packet_id=IDS,
            filters=st.lists(FILTERS, min_size=1, max_size=3).map(tuple),
            properties=properties(p.UNSUBSCRIBE, version),
        ),
        st.builds(p.Pingreq),
    ]
    if version == V5:
        kinds += [
            st.builds(
                p.Disconnect,
                reason=st.sampled_from(sorted(reasons.DISCONNECT_FROM_CLIENT)),
                properties=properties(p.DISCONNECT, version),
            ),
            auths(),
        ]
    else:
        kinds.append(st.builds(p.Disconnect))
    return st.one_of(kinds)


def auths() -> st.SearchStrategy[p.Auth]:
    """AUTH packets."""
    found = st.builds(
        Properties, authentication_method=TEXT, authentication_data=st.none() | BINARY
    )
    return st.builds(p.Auth, reason=st.sampled_from((0, 0x18, 0x19)), properties=found) | st.just(
        p.Auth()
    )


def from_server(version: int) -> st.SearchStrategy[p.Packet]:
    """All that a server may send."""

    def connack(present: bool, reason: int, found: Properties) -> p.Connack:
        return p.Connack(session_present=present and not reason, reason=reason, properties=found)

    is_v4 = version == V4
    connacks = (
        st.sampled_from((0, 0x84, 0x85, 0x88, 0x86, 0x87))
        if is_v4
        else st.sampled_from(sorted(reasons.ALLOWED[p.CONNACK]))
    )
    subacks = reasons.SUBACK_V4 if is_v4 else reasons.ALLOWED[p.SUBACK]
    unsubacks = st.sampled_from(sorted(reasons.ALLOWED[p.UNSUBACK]))
    kinds: list[st.SearchStrategy[Any]] = [
        st.builds(connack, st.booleans(), connacks, properties(p.CONNACK, version)),
        publishes(version),
        _acks(p.PUBACK, p.Puback, version),
        _acks(p.PUBREC, p.Pubrec, version),
        _acks(p.PUBREL, p.Pubrel, version),
        _acks(p.PUBCOMP, p.Pubcomp, version),
        st.builds(
            p.Suback,
            packet_id=IDS,
            reasons=st.lists(st.sampled_from(sorted(subacks)), min_size=1, max_size=4).map(tuple),
            properties=properties(p.SUBACK, version),
        ),
        st.builds(
            p.Unsuback,
            packet_id=IDS,
            reasons=st.just(()) if is_v4 else st.lists(unsubacks, min_size=1).map(tuple),
            properties=properties(p.UNSUBACK, version),
        ),
        st.builds(p.Pingresp),
    ]
    if not is_v4:
        kinds += [
            st.builds(
                p.Disconnect,
                reason=st.sampled_from(sorted(reasons.DISCONNECT_FROM_SERVER)),
                properties=properties(p.DISCONNECT, version, "session_expiry"),
            ),
            auths(),
        ]
    return st.one_of(kinds)
