"""Package description of KubeEdge-TX; tool settings are in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(
    r'^VERSION: Final = "(.*)"$', (HERE / "kubeedge_tx/__init__.py").read_text(), re.M
)
assert VERSION is not None

setup(
    name="kubeedge-tx",
    version=VERSION[1],
    description="Kubernetes for machines behind bad links, in Python on Twisted",
    long_description=(HERE / "README.rst").read_text(encoding="utf-8"),
    license="Apache-2.0",
    python_requires=">=3.11",
    # A plain path entry: with the import hook that setuptools would use otherwise, an
    # editable install hides twisted/plugins from Twisted.
    package_dir={"": "."},
    packages=[
        *find_packages(include=["kubeedge_tx", "kubeedge_tx.*"]),
        "twisted.plugins",
    ],
    package_data={
        "kubeedge_tx": ["py.typed"],
        "kubeedge_tx.api": ["crds/*.yaml"],
        "kubeedge_tx.apiserver": ["data/*"],
        "kubeedge_tx.store": ["schema/*.sql", "schema_mqtt/*.sql"],
    },
    entry_points={"console_scripts": ["keadm = kubeedge_tx.keadm.main:main"]},
    install_requires=[
        "twisted >= 26.10",
        "autobahn >= 26.6.2",
        "txaio >= 26.6",
        "service-identity >= 26.1",
        "pyopenssl >= 26.4",
        "treq >= 26.7",
        "kubernetes >= 37",
        "docker >= 7.2",
        "requests >= 2.34",
        "urllib3 >= 2.8",
        "zope.interface >= 8.7",
        "cryptography >= 50",
        "httptools >= 0.9",
        "msgspec >= 0.22",
        "PyYAML >= 6.0.3",
        "PyJWT >= 2.15",
        "click >= 8.5",
        "rich >= 15",
    ],
)
