"""What stands in a scene: ground, buildings, street furniture, vegetation, rooms."""
