"""Between MQTT and the modules."""
