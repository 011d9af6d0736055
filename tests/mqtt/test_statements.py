from __future__ import annotations

import inspect
from importlib import import_module
from types import ModuleType

from twisted.trial.unittest import SynchronousTestCase

from tests.mqtt import statements_v5, statements_v311


class StatementTests(SynchronousTestCase):
    """Each normative statement of both specifications has its test, or a reason for none."""

    def numbers(self, table: ModuleType) -> list[str]:
        return [
            f"{section}-{number}"
            for section, (lowest, highest) in table.SECTIONS.items()
            for number in range(lowest, highest + 1)
        ]

    def check(self, table: ModuleType, count: int) -> None:
        numbers = self.numbers(table)
        self.assertEqual(len(numbers), count)
        self.assertEqual(list(table.STATEMENTS), numbers)
        for number, entry in table.STATEMENTS.items():
            if isinstance(entry, statements_v5.NotOurs):
                self.assertGreater(len(entry.split()), 4, number)
                continue
            self.assertTrue(entry, number)
            for name in entry:
                module, case, method = name.split(".")
                found = getattr(import_module(f"tests.mqtt.test_{module}"), case, None)
                self.assertTrue(found is not None, f"{number}: there is no {name}")
                test = getattr(found, method, None)
                self.assertTrue(inspect.isfunction(test), f"{number}: there is no {name}")
                self.assertTrue(test.__doc__, f"{name} does not say what it shows")

    def test_v311(self) -> None:
        """All 141 of MQTT 3.1.1."""
        self.check(statements_v311, 141)

    def test_v5(self) -> None:
        """All 251 of MQTT 5.0."""
        self.check(statements_v5, 251)
