"""SyncController: what each node has confirmed against what the cluster has."""
