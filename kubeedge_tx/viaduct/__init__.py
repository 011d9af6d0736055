"""The cloud-edge channel, used by both ends."""
