"""DeviceController: devices and their models to the edges, what devices report to the cluster."""
