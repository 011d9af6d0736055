"""MQTT 3.1.1 and 5.0: packets, sessions, a broker and a client.

The core is pure: bytes and the time go in, bytes and effects come out. Only
:mod:`~kubeedge_tx.mqtt.server` and :mod:`~kubeedge_tx.mqtt.client` know Twisted.
"""
