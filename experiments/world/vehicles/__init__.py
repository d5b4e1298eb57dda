"""Vehicles: cars, vans, trucks, buses and cycles, as meshes for both cameras."""
