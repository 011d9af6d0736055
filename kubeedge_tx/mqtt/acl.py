"""Who may use which topics, from a file in mosquitto's ``acl_file`` format.

Source: mosquitto.conf(5), "Default authentication and authorisation". In short::

    topic read public/#          # before any "user" line: clients without a name
    user alice
    topic readwrite alice/#
    topic deny alice/secret/#
    pattern write sensors/%c/#   # for everyone; %c is the client id, %u the user name
"""

from __future__ import annotations

from typing import Final, Protocol

from kubeedge_tx.errors import ConfigError
from kubeedge_tx.mqtt import topics
from kubeedge_tx.mqtt.reasons import MqttError

READ: Final = 1
WRITE: Final = 2
DENY: Final = 0

_ACCESS: Final = {"read": READ, "write": WRITE, "readwrite": READ | WRITE, "deny": DENY}


class Access(Protocol):
    """Decides who may publish and get what."""

    def allows(self, user: str, client_id: str, topic: str, write: bool) -> bool:
        """Tell whether a client may publish to a topic (``write``), or get messages from it.

        :param user: empty for a client without a name.
        """


class _Rule:
    __slots__ = ("access", "filter")

    def __init__(self, topic_filter: str, access: int) -> None:
        self.filter = topic_filter
        self.access = access


class AccessList:
    """The rules of one file. What no rule allows is denied."""

    __slots__ = ("_anonymous", "_by_user", "_patterns")

    def __init__(self) -> None:
        self._anonymous: list[_Rule] = []
        self._by_user: dict[str, list[_Rule]] = {}
        self._patterns: list[_Rule] = []

    @classmethod
    def parse(cls, text: str, path: str) -> AccessList:
        """Read a file's text.

        :param path: names the file in errors.
        :raises ConfigError: with the line's number.
        """
        made = cls()
        rules = made._anonymous
        for number, line in enumerate(text.splitlines(), 1):
            words = line.strip().split(None, 1)
            if not words or words[0].startswith("#"):
                continue
            where = f"{path}:{number}"
            verb, rest = words[0], words[1].strip() if len(words) > 1 else ""
            if not rest:
                raise ConfigError(where, f"{verb!r} needs a value")
            if verb == "user":
                rules = made._by_user.setdefault(rest, [])
            elif verb == "topic":
                rules.append(_rule(rest, where))
            elif verb == "pattern":
                made._patterns.append(_rule(rest, where))
            else:
                raise ConfigError(where, f"{verb!r} is none of user, topic, pattern")
        return made

    def allows(self, user: str, client_id: str, topic: str, write: bool) -> bool:
        """See :class:`Access`."""
        wanted = WRITE if write else READ
        own = self._by_user.get(user, ()) if user else self._anonymous
        is_allowed = False
        for rule in own:
            if (rule.access == DENY or rule.access & wanted) and topics.matches(rule.filter, topic):
                if rule.access == DENY:
                    return False
                is_allowed = True
        for rule in self._patterns:
            if not (rule.access == DENY or rule.access & wanted):
                continue
            filled = _fill(rule.filter, user, client_id)
            if filled is None:
                if rule.access == DENY:
                    return False
            elif topics.matches(filled, topic):
                if rule.access == DENY:
                    return False
                is_allowed = True
        return is_allowed


def _rule(rest: str, where: str) -> _Rule:
    first, _, after = rest.partition(" ")
    access, topic_filter = READ | WRITE, rest
    if first in _ACCESS and after.strip():
        access, topic_filter = _ACCESS[first], after.strip()
    try:
        topics.check_filter(topic_filter)
    except MqttError as error:
        raise ConfigError(where, str(error)) from None
    return _Rule(topic_filter, access)


def _fill(pattern: str, user: str, client_id: str) -> str | None:
    """A pattern for one client; ``None`` if it does not apply.

    A name that has wildcards or levels of its own could reach topics of others
    (CVE-2017-7650 of mosquitto), so nothing is allowed to it by a pattern.
    """
    for mark, value in (("%u", user), ("%c", client_id)):
        if mark in pattern:
            if not value or any(char in value for char in "+#/"):
                return None
            pattern = pattern.replace(mark, value)
    return pattern
