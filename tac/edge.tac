"""``KUBEEDGE_CONFIG=/etc/kubeedge/config/edgecore.yaml twistd -ny tac/edge.tac``.

``KUBEEDGE_DATA_DIR`` names another data directory than the default one.
"""

import os

from twisted.application.service import Application

from kubeedge_tx.tap import edge

given = {"--config": os.environ.get("KUBEEDGE_CONFIG"), "--data-dir": os.environ.get("KUBEEDGE_DATA_DIR")}
options = edge.Options()
options.parseOptions([word for option, value in given.items() if value for word in (option, value)])

application = Application("kubeedge-edge")
edge.makeService(options).setServiceParent(application)
