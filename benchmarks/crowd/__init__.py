"""What an operator asks and costs while hundreds of objects wait for a device in a large cluster."""
