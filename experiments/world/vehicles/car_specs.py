"""Measures of cars and vans: side view, plan, section, axles, windows and trim."""

from __future__ import annotations

from dataclasses import dataclass

from experiments.world.vehicles.shapes import Rows, Shell

_PLAN = (
    (-0.5, 0.80),
    (-0.46, 0.92),
    (-0.36, 0.985),
    (-0.1, 1.0),
    (0.18, 0.995),
    (0.34, 0.97),
    (0.44, 0.91),
    (0.48, 0.84),
    (0.5, 0.76),
)


@dataclass(frozen=True)
class CarSpec:
    """Describe a kind of car.

    Attributes:
        shell: the body.
        axles: x of front and rear axle.
        radius: of the wheels.
        belt: heights of the lower edge of the side windows at the rear and at the front.
        glass: x of windshield base, header, rear edge of the roof, base of the rear window.
        pillars: x of the door pillars.
        inset: distance from the roof's outline to the side windows.
        side_glass: x of the last side window's rear end.
        hood: x from which the hood reaches forward.
        cladding: height of dark plastic above the ground; 0 for painted sills.
    """

    shell: Shell
    axles: tuple[float, float]
    radius: float
    belt: tuple[float, float]
    glass: tuple[float, float, float, float]
    pillars: tuple[float, ...]
    inset: float = 0.10
    side_glass: float = -9.0
    hood: float = 1.0
    cladding: float = 0.30


def _section(low: float, belt: float, roof: float, lean: float = 0.72) -> Rows:
    """Return the cross-section of a car: upright below the belt, leaning in above it."""
    return (
        (low, 0.90),
        (low + 0.14, 0.965),
        (0.55 * belt + 0.05, 0.995),
        (0.62 * belt + 0.1, 1.0),
        (belt - 0.02, 0.965),
        (belt + 0.05, 0.94),
        (0.5 * (belt + roof), 0.5 * (0.94 + lean) + 0.02),
        (roof, lean),
        (roof + 0.2, lean - 0.07),
    )


CARS: dict[str, CarSpec] = {
    "sedan": CarSpec(
        Shell(
            4.66,
            1.82,
            (
                (-2.36, 0.96),
                (-2.26, 1.03),
                (-1.72, 1.09),
                (-0.92, 1.43),
                (-0.45, 1.465),
                (0.15, 1.45),
                (0.42, 1.41),
                (1.20, 1.00),
                (1.9, 0.88),
                (2.18, 0.78),
                (2.34, 0.62),
            ),
            _PLAN,
            _section(0.19, 0.92, 1.46),
        ),
        (1.42, -1.36),
        0.325,
        (0.96, 0.90),
        (1.16, 0.40, -0.90, -1.68),
        (-0.30, -1.22),
        0.095,
        -1.45,
        1.22,
    ),
    "hatchback": CarSpec(
        Shell(
            4.10,
            1.76,
            (
                (-2.08, 0.86),
                (-2.00, 1.02),
                (-1.62, 1.42),
                (-1.2, 1.49),
                (-0.2, 1.515),
                (0.25, 1.49),
                (0.48, 1.43),
                (1.18, 1.03),
                (1.66, 0.92),
                (1.94, 0.80),
                (2.07, 0.62),
            ),
            _PLAN,
            _section(0.18, 0.95, 1.51),
        ),
        (1.27, -1.28),
        0.31,
        (1.02, 0.93),
        (1.14, 0.42, -1.60, -1.94),
        (-0.28, -1.10),
        0.10,
        -1.48,
        1.20,
    ),
    "suv": CarSpec(
        Shell(
            4.55,
            1.87,
            (
                (-2.30, 0.95),
                (-2.22, 1.14),
                (-1.88, 1.58),
                (-1.5, 1.66),
                (-0.2, 1.69),
                (0.25, 1.66),
                (0.48, 1.60),
                (1.12, 1.15),
                (1.75, 1.07),
                (2.12, 0.95),
                (2.30, 0.72),
            ),
            _PLAN,
            _section(0.24, 1.07, 1.68, 0.76),
            0.25,
        ),
        (1.38, -1.34),
        0.365,
        (1.13, 1.06),
        (1.08, 0.44, -1.84, -2.16),
        (-0.30, -1.22),
        0.11,
        -1.78,
        1.14,
        0.42,
    ),
    "wagon": CarSpec(
        Shell(
            4.68,
            1.80,
            (
                (-2.36, 0.90),
                (-2.28, 1.06),
                (-1.95, 1.40),
                (-1.6, 1.465),
                (-0.4, 1.49),
                (0.2, 1.465),
                (0.45, 1.41),
                (1.20, 1.00),
                (1.88, 0.89),
                (2.20, 0.78),
                (2.35, 0.62),
            ),
            _PLAN,
            _section(0.19, 0.93, 1.48),
        ),
        (1.42, -1.36),
        0.325,
        (0.98, 0.91),
        (1.16, 0.42, -1.92, -2.2),
        (-0.30, -1.20),
        0.095,
        -1.88,
        1.22,
    ),
    "van": CarSpec(
        Shell(
            5.10,
            1.96,
            (
                (-2.58, 1.90),
                (-2.52, 1.98),
                (-2.3, 2.02),
                (0.2, 2.03),
                (0.75, 1.98),
                (1.05, 1.85),
                (1.72, 1.20),
                (2.20, 1.04),
                (2.46, 0.88),
                (2.58, 0.66),
            ),
            (
                (-0.5, 0.95),
                (-0.47, 0.99),
                (-0.1, 1.0),
                (0.25, 0.99),
                (0.4, 0.94),
                (0.47, 0.86),
                (0.5, 0.78),
            ),
            _section(0.24, 1.10, 2.02, 0.86),
            0.24,
            (0.22, 0.03),
            0.04,
            0.09,
        ),
        (1.62, -1.42),
        0.345,
        (1.16, 1.10),
        (1.66, 1.02, -2.46, -2.54),
        (0.55,),
        0.22,
        0.55,
        1.72,
        0.40,
    ),
    "minibus": CarSpec(
        Shell(
            4.95,
            1.94,
            (
                (-2.50, 1.70),
                (-2.44, 1.86),
                (-2.2, 1.93),
                (0.2, 1.95),
                (0.75, 1.90),
                (1.05, 1.77),
                (1.78, 1.16),
                (2.20, 1.02),
                (2.40, 0.86),
                (2.50, 0.64),
            ),
            (
                (-0.5, 0.93),
                (-0.46, 0.985),
                (-0.1, 1.0),
                (0.25, 0.99),
                (0.4, 0.94),
                (0.47, 0.86),
                (0.5, 0.78),
            ),
            _section(0.22, 1.06, 1.94, 0.84),
            0.22,
            (0.22, 0.05),
            0.04,
            0.09,
        ),
        (1.52, -1.40),
        0.335,
        (1.10, 1.04),
        (1.72, 1.02, -2.36, -2.47),
        (0.50, -0.85),
        0.15,
        -2.22,
        1.78,
        0.36,
    ),
}
