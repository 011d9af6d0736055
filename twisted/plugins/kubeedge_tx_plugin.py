"""The roles that ``twistd`` can start."""

from twisted.application.service import ServiceMaker

kubeedge_cloud = ServiceMaker(
    "KubeEdge-TX cloud",
    "kubeedge_tx.tap.cloud",
    "The cloud side of KubeEdge: CloudHub, controllers, certificates.",
    "kubeedge-cloud",
)

kubeedge_edge = ServiceMaker(
    "KubeEdge-TX edge",
    "kubeedge_tx.tap.edge",
    "The edge agent of KubeEdge: runs pods behind a bad link.",
    "kubeedge-edge",
)

kubeedge_mqtt = ServiceMaker(
    "KubeEdge-TX MQTT broker",
    "kubeedge_tx.tap.mqtt",
    "An MQTT broker, 3.1.1 and 5, with persistent sessions.",
    "kubeedge-mqtt",
)
