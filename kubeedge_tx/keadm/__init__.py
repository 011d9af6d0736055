"""``keadm``: install, join, look after and remove a cloud or an edge.

Nothing here runs in a reactor: what it needs of the network it asks with blocking calls.
"""
