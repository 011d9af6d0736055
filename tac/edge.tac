"""``KUBEEDGE_CONFIG=/etc/kubeedge/config/edgecore.yaml twistd -ny tac/edge.tac``."""

import os

from twisted.application.service import Application

from kubeedge_tx.tap import edge

options = edge.Options()
options.parseOptions(["--config", os.environ["KUBEEDGE_CONFIG"]] if "KUBEEDGE_CONFIG" in os.environ else [])

application = Application("kubeedge-edge")
edge.makeService(options).setServiceParent(application)
