"""Tests of ``keadm``, run as a person runs it."""
