"""Certificates, tokens and identities."""
