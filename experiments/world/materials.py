"""Materials: how each surface reflects light, and which texture is drawn on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Material:
    """Say how a surface looks.

    Attributes:
        finish: key of ``FINISHES``, the reflection model.
        texture: key of ``textures.TEXTURES``.
        emission: radiance where the surface shines by itself, relative to a sunlit wall at 1.
        lights_scene: whether the emission also lights the surroundings (large bright areas).
    """

    finish: str
    texture: str = "plain"
    emission: float = 0.0
    lights_scene: bool = False


MATERIALS: dict[str, Material] = {
    "skin": Material("satin", "skin"),
    "cloth": Material("diffuse", "cloth"),
    "hair": Material("satin", "hair"),
    "shoe": Material("satin", "dirty"),
    "car_paint": Material("lacquer", "car"),
    "glass": Material("glass", "glass"),
    "car_glass": Material("glass", "glass"),
    "rubber": Material("diffuse", "rubber"),
    "chrome": Material("chrome", "plain"),
    "plastic": Material("satin", "dirty"),
    "lamp": Material("glass", "plain"),
    "headlamp_on": Material("glass", "plain", 60.0),
    "taillamp_on": Material("glass", "plain", 8.0),
    "lamp_on": Material("diffuse", "plain", 40.0),
    "tube_on": Material("diffuse", "plain", 3.0),
    "signal_on": Material("diffuse", "plain", 9.0),
    "lit_glass": Material("diffuse", "interior", 0.10, True),
    "shop_glass": Material("diffuse", "shop", 0.12, True),
    "screen": Material("diffuse", "sign", 0.3, True),
    "asphalt": Material("diffuse", "asphalt"),
    "asphalt_wet": Material("wet", "asphalt"),
    "paving": Material("diffuse", "paving"),
    "paving_wet": Material("wet", "paving"),
    "road_paint": Material("diffuse", "road_paint"),
    "concrete": Material("diffuse", "concrete"),
    "brick": Material("diffuse", "brick"),
    "plaster": Material("diffuse", "plaster"),
    "wood": Material("diffuse", "wood"),
    "roof": Material("diffuse", "roof"),
    "metal": Material("metal", "metal"),
    "paint": Material("satin", "dirty"),
    "sign": Material("satin", "sign"),
    "foliage": Material("diffuse", "leaf"),
    "bark": Material("diffuse", "bark"),
    "grass": Material("diffuse", "blade"),
    "lawn": Material("diffuse", "lawn"),
    "soil": Material("diffuse", "soil"),
    "snow": Material("diffuse", "snow"),
    "water": Material("water", "plain"),
    "floor": Material("wet", "tiles"),
    "carpet": Material("diffuse", "cloth"),
    "fabric": Material("diffuse", "cloth"),
    "leather": Material("satin", "dirty"),
}


def material_of(name: str) -> Material:
    """Look up a material.

    Raises:
        KeyError: if ``name`` is not a material; the message lists those that are.
    """
    if name not in MATERIALS:
        raise KeyError(f"unknown material {name!r}; expected one of {', '.join(sorted(MATERIALS))}")
    return MATERIALS[name]


def finishes(albedo: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Give the renderer's description of each reflection model for one source of albedo."""

    def glossy(**values: float) -> dict[str, Any]:
        return {"type": "principled", "base_color": albedo, **values}

    return {
        "diffuse": {"type": "diffuse", "reflectance": albedo},
        "satin": glossy(roughness=0.5, specular=0.4),
        "lacquer": glossy(roughness=0.4, specular=0.5, clearcoat=1.0, clearcoat_gloss=0.96),
        "glass": glossy(roughness=0.04, specular=0.7),
        "metal": glossy(metallic=0.6, roughness=0.45),
        "chrome": {"type": "roughconductor", "alpha": 0.12},
        "wet": glossy(roughness=0.2, specular=0.5),
        "water": glossy(roughness=0.05, specular=0.35),
    }
