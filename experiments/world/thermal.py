"""Temperature of every surface, and the radiance that a long-wave infrared camera sees.

A surface takes a temperature between that of the air and that of a source of heat inside it (a
body, an engine, a heated room), warms in the sun, and cools where it sees the clear sky:

    T = T_air + c (T_inner - T_air) + a E_sun - b V_sky + r * relief

with the coupling ``c``, the irradiance of the sun ``E_sun`` in [0, 1], the fraction of the sky in
view ``V_sky`` and the texture's ``relief``. The camera sees

    L = e B(T) + (1 - e) (V_sky B(T_sky) + (1 - V_sky) B(T_air)),

with the emissivity ``e`` and ``B(T)`` proportional to ``T^4.1`` with T in kelvin, which follows the
band from 8 to 14 micrometers closely between -40 and 100 degrees Celsius.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
_EXPONENT = 4.1


@dataclass(frozen=True)
class Heat:
    """How a kind of surface warms and cools; temperatures in degrees Celsius.

    Attributes:
        inner: temperature of the source inside; None means the air's.
        coupling: how far the surface follows ``inner``, in [0, 1].
        solar: degrees gained in full sun.
        sky_loss: degrees lost under an open, clear sky.
        texture: degrees per unit of relief.
        emissivity: in the band of the camera.
        lag: degrees that the surface keeps from the day (positive) after sunset.
    """

    inner: float | None = None
    coupling: float = 0.0
    solar: float = 10.0
    sky_loss: float = 2.5
    texture: float = 0.5
    emissivity: float = 0.94
    lag: float = 0.0


HEAT: dict[str, Heat] = {
    "skin": Heat(34.5, 0.86, 2.0, 0.4, 0.7, 0.98),
    "clothed_torso": Heat(33.0, 0.46, 6.0, 0.8, 1.3, 0.95),
    "clothed_limb": Heat(32.0, 0.38, 5.0, 0.8, 1.3, 0.95),
    "hair": Heat(33.0, 0.55, 5.0, 0.6, 0.8, 0.96),
    "shoe": Heat(30.0, 0.2, 5.0, 0.6, 0.5, 0.94),
    "bag": Heat(30.0, 0.08, 8.0, 1.5, 0.5, 0.94),
    "hood_warm": Heat(58.0, 0.42, 8.0, 2.5, 1.0, 0.85),
    "hood_cold": Heat(None, 0.0, 14.0, 4.0, 0.4, 0.82),
    "body": Heat(None, 0.0, 13.0, 3.5, 0.4, 0.82),
    "window": Heat(20.0, 0.12, 5.0, 2.0, 0.25, 0.80),
    "car_window": Heat(20.0, 0.1, 6.0, 4.0, 0.3, 0.82),
    "tire": Heat(45.0, 0.35, 6.0, 0.5, 0.6, 0.95),
    "tire_cold": Heat(None, 0.0, 7.0, 0.5, 0.4, 0.95),
    "exhaust": Heat(140.0, 0.5, 4.0, 0.0, 2.0, 0.85),
    "wheel_arch": Heat(40.0, 0.35, 1.0, 0.0, 0.6, 0.95),
    "wheel_arch_cold": Heat(None, 0.0, 1.0, 0.0, 0.6, 0.95),
    "underbody": Heat(50.0, 0.3, 0.0, 0.0, 1.0, 0.95),
    "lamp_hot": Heat(75.0, 0.45, 2.0, 0.0, 0.5, 0.9),
    "ambient": Heat(None, 0.0, 8.0, 2.0, 0.5, 0.88),
    "frame": Heat(18.0, 0.12, 7.0, 1.5, 0.3, 0.9),
    "unit": Heat(38.0, 0.28, 8.0, 2.0, 0.8, 0.9),
    "road": Heat(None, 0.0, 17.0, 3.0, 0.9, 0.95, 3.5),
    "road_paint": Heat(None, 0.0, 12.0, 3.0, 0.7, 0.92, 2.3),
    "sewer": Heat(16.0, 0.5, 10.0, 2.0, 0.6, 0.85, 1.0),
    "pavement": Heat(None, 0.0, 14.0, 3.0, 0.9, 0.94, 2.6),
    "wall": Heat(20.0, 0.08, 11.0, 1.6, 0.8, 0.93, 2.4),
    "door": Heat(20.0, 0.14, 8.0, 1.0, 0.4, 0.92, 1.2),
    "inner_wall": Heat(21.0, 0.3, 2.0, 0.0, 0.35, 0.93),
    "floor": Heat(20.0, 0.3, 2.0, 0.0, 0.4, 0.92),
    "radiator": Heat(55.0, 0.7, 2.0, 0.0, 0.8, 0.93),
    "screen": Heat(40.0, 0.5, 2.0, 0.0, 0.5, 0.93),
    "cup": Heat(60.0, 0.7, 0.0, 0.0, 0.3, 0.95),
    "roof": Heat(20.0, 0.04, 15.0, 6.5, 0.9, 0.91, 1.0),
    "chimney": Heat(70.0, 0.3, 8.0, 1.5, 0.8, 0.93, 1.0),
    "lit_window": Heat(22.0, 0.3, 4.0, 1.0, 0.4, 0.82),
    "foliage": Heat(None, 0.0, 5.0, 2.2, 0.7, 0.97, 0.4),
    "bark": Heat(None, 0.0, 7.0, 1.0, 0.7, 0.95, 1.3),
    "grass": Heat(None, 0.0, 6.0, 4.0, 0.8, 0.97, -0.8),
    "ground": Heat(None, 0.0, 10.0, 4.2, 1.0, 0.95, -0.2),
    "water": Heat(14.0, 0.7, 1.0, 0.8, 0.2, 0.96, 1.0),
    "snow": Heat(-2.0, 0.7, 1.0, 4.0, 0.5, 0.97),
    "animal": Heat(36.0, 0.6, 4.0, 0.5, 1.0, 0.96),
    "fire": Heat(600.0, 0.7, 0.0, 0.0, 60.0, 0.9),
}  # fmt: skip


@dataclass(frozen=True)
class Weather:
    """What the thermal picture depends on.

    Attributes:
        air: temperature of the air, degrees Celsius.
        sun: strength of the sun in [0, 1] (0 by night and under thick cloud).
        cloud: cover in [0, 1]; clouds are nearly as warm as the air, a clear sky is not.
        stored: how much of the day's heat massive things still hold, in [-0.5, 1.5].
        wet: whether surfaces are wet, which evens out temperatures.
    """

    air: float = 12.0
    sun: float = 0.0
    cloud: float = 0.0
    stored: float = 1.0
    wet: bool = False


def heat_of(name: str) -> Heat:
    """Look up a source of heat.

    Raises:
        KeyError: if ``name`` is unknown; the message lists the known ones.
    """
    if name not in HEAT:
        raise KeyError(f"unknown heat {name!r}; expected one of {', '.join(sorted(HEAT))}")
    return HEAT[name]


def radiance(celsius: npt.ArrayLike) -> Array:
    """Return the band radiance ``((T + 273.15) / 300)^4.1``, 1 at 26.85 degrees Celsius."""
    kelvin = np.maximum(np.asarray(celsius, np.float64) + 273.15, 1.0)
    return ((kelvin / 300.0) ** _EXPONENT).astype(np.float32)


def apparent(band_radiance: npt.ArrayLike) -> Array:
    """Return the temperature of the black body with this radiance, degrees Celsius."""
    x = np.maximum(np.asarray(band_radiance, np.float64), 1e-9)
    return (300.0 * x ** (1 / _EXPONENT) - 273.15).astype(np.float32)


def sky_temperature(weather: Weather, elevation: npt.ArrayLike) -> Array:
    """Return the sky's apparent temperature at an elevation in radians; cold at the zenith."""
    up = np.clip(np.sin(np.maximum(np.asarray(elevation, np.float64), 0.0)), 0.0, 1.0)
    clear = weather.air - 3.0 - 52.0 * up**0.45
    cloudy = weather.air - 3.0 - 7.0 * up
    return (weather.cloud * cloudy + (1 - weather.cloud) * clear).astype(np.float32)


def surface_temperature(
    heats: npt.NDArray[np.str_] | list[str],
    index: npt.NDArray[np.integer],
    weather: Weather,
    sun: Array,
    sky_view: Array,
    relief: Array,
) -> tuple[Array, Array]:
    """Return temperature in degrees Celsius and emissivity for points of a picture.

    Args:
        heats: keys of ``HEAT``, one for each part.
        index: for every point, which part it lies on.
        weather: the conditions.
        sun: irradiance of the sun in [0, 1] at every point.
        sky_view: fraction of the sky that every point sees, in [0, 1].
        relief: texture, about [-1, 1].
    """
    table = [heat_of(h) for h in heats]
    inner = np.array([weather.air if h.inner is None else h.inner for h in table], np.float32)
    fields = ("coupling", "solar", "sky_loss", "texture", "emissivity", "lag")
    coupling, solar, loss, texture, emissivity, lag = (
        np.array([getattr(h, name) for h in table], np.float32)[index] for name in fields
    )
    calm = 0.45 if weather.wet else 1.0
    temperature = (
        weather.air
        + coupling * (inner[index] - weather.air)
        + calm * solar * weather.sun * sun
        - calm * loss * (1 - weather.cloud) * sky_view
        + calm * lag * weather.stored
        + texture * relief * (0.45 + 0.55 * calm)
    )
    return temperature.astype(np.float32), emissivity


def leaving_radiance(
    temperature: Array, emissivity: Array, sky_view: Array, weather: Weather
) -> Array:
    """Return emitted plus reflected radiance; around are the sky and things as warm as the air."""
    sky = radiance(sky_temperature(weather, 0.9))
    around = sky_view * sky + (1 - sky_view) * radiance(weather.air)
    return (emissivity * radiance(temperature) + (1 - emissivity) * around).astype(np.float32)
