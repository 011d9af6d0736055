"""``KUBEEDGE_CONFIG=/etc/kubeedge/config/cloudcore.yaml twistd -ny tac/cloud.tac``."""

import os

from twisted.application.service import Application

from kubeedge_tx.tap import cloud

options = cloud.Options()
options.parseOptions(["--config", os.environ["KUBEEDGE_CONFIG"]] if "KUBEEDGE_CONFIG" in os.environ else [])

application = Application("kubeedge-cloud")
cloud.makeService(options).setServiceParent(application)
