"""Mitsuba 3: what every pixel sees (geometry) and how much light it gets.

The fine texture of surfaces is not given to the renderer: it path-traces plain albedos, and the
texture multiplies the picture afterwards (``shading``). That keeps scenes small and lets both
cameras draw their texture from the same points in space.
"""

from __future__ import annotations

import ctypes.util
import glob
import os
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from experiments.world.light import Light, environment_map
from experiments.world.materials import finishes, material_of
from experiments.world.part import Part
from experiments.world.scene import Camera

Array = npt.NDArray[np.float32]
SKY_ROWS = 96


def find_llvm() -> str | None:
    """Find an LLVM library that Dr.Jit can use (16 or newer; 14 and 15 crash)."""
    if os.environ.get("DRJIT_LIBLLVM_PATH"):
        return os.environ["DRJIT_LIBLLVM_PATH"]
    for version in range(21, 15, -1):
        for pattern in (
            f"/usr/lib/*/libLLVM*{version}*",
            f"/usr/lib/llvm-{version}/lib/libLLVM*",
            f"/opt/homebrew/opt/llvm*/lib/libLLVM*{version}*",
        ):
            found = sorted(glob.glob(pattern))
            if found:
                return found[0]
        name = ctypes.util.find_library(f"LLVM-{version}")
        if name:
            return name
    return None


@lru_cache(maxsize=1)
def mitsuba() -> ModuleType:
    """Import Mitsuba with the fastest variant that runs here, saying so if that is the slow one.

    Raises:
        ImportError: if Mitsuba is not installed; the message says how to install it.
    """
    library = find_llvm()
    if library:
        os.environ["DRJIT_LIBLLVM_PATH"] = library
    try:
        import mitsuba as mi
    except ImportError as error:
        raise ImportError(
            "rendering needs Mitsuba 3: install the extra, pip install -e '.[world]'"
        ) from error
    wanted = os.environ.get("WORLD_VARIANT", "llvm_ad_rgb" if library else "scalar_rgb")
    if not library and "WORLD_VARIANT" not in os.environ:
        print("no LLVM 16 or newer found (Debian: libllvm19): rendering 2 to 20 times slower")
    mi.set_variant(wanted)
    mi.set_log_level(mi.LogLevel.Error)
    if wanted.startswith("llvm") and os.environ.get("WORLD_THREADS"):
        import drjit

        drjit.set_thread_count(int(os.environ["WORLD_THREADS"]))
    return mi


@dataclass(frozen=True)
class Bundle:
    """Parts merged to one mesh for each way of reflecting light."""

    finish: str
    emission: float
    vertices: Array
    normals: Array
    colors: Array
    faces: npt.NDArray[np.int32]
    part_of_face: npt.NDArray[np.int32]
    heat_of_face: Array


def _spread(
    part: Part, per_vertex: Array | None, value: float | tuple[float, ...], width: int
) -> Array:
    """One row for each vertex: the part's own values, or the same value everywhere."""
    if per_vertex is not None:
        return per_vertex.reshape(-1, width).astype(np.float32)
    return np.broadcast_to(np.asarray(value, np.float32), (len(part.vertices), width))


def vertex_normals(vertices: Array, faces: npt.NDArray[np.int32]) -> Array:
    """Average the normals of the faces around each vertex, weighted by area."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    n = np.cross(b - a, c - a)
    total = np.zeros((len(vertices), 3), np.float64)
    for k in range(3):
        for axis in range(3):
            total[:, axis] += np.bincount(faces[:, k], n[:, axis], len(vertices))
    length = np.linalg.norm(total, axis=1, keepdims=True)
    return np.where(length > 1e-12, total / np.maximum(length, 1e-12), [0, 0, 1]).astype(np.float32)


def bundle(parts: list[Part], fixed: int | None = None) -> list[Bundle]:
    """Merge the parts of a scene by finish, with normals and colors at the vertices.

    Parts from number ``fixed`` on move from frame to frame: they come last, so that the faces of
    all others, from which their textures are drawn, keep their numbers.
    """
    groups: dict[tuple[str, float, bool], list[int]] = {}
    for i, part in enumerate(parts):
        m = material_of(part.material)
        key = (m.finish, m.emission if m.lights_scene else 0.0, fixed is not None and i >= fixed)
        groups.setdefault(key, []).append(i)
    result = []
    for (finish, emission, _), members in groups.items():
        rows: list[list[np.ndarray]] = [[] for _ in range(6)]
        offset = 0
        for i in members:
            part = parts[i]
            v, f = part.vertices, part.faces
            color = _spread(part, part.vertex_color, part.color, 3)
            heat = _spread(part, part.vertex_heat, 0.0, 1)[f].mean((1, 2))
            if not part.normals_smooth:
                v, color = v[f].reshape(-1, 3), color[f].reshape(-1, 3)
                f = np.arange(len(v), dtype=np.int32).reshape(-1, 3)
            new = (v, vertex_normals(v, f), color, f + offset, np.full(len(f), i, np.int32), heat)
            for row, array in zip(rows, new, strict=True):
                row.append(array)
            offset += len(v)
        result.append(Bundle(finish, emission, *(np.concatenate(row) for row in rows)))
    return result


def write_ply(path: Path, b: Bundle) -> None:
    """Write a bundle as a binary PLY file with normals and colors."""
    header = (
        f"ply\nformat binary_little_endian 1.0\nelement vertex {len(b.vertices)}\n"
        + "".join(f"property float {k}\n" for k in ("x", "y", "z", "nx", "ny", "nz", "r", "g", "b"))
        + f"element face {len(b.faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    rows = np.hstack([b.vertices, b.normals, b.colors]).astype("<f4")
    faces = np.zeros(len(b.faces), dtype=[("n", "u1"), ("i", "<i4", 3)])
    faces["n"], faces["i"] = 3, b.faces
    path.write_bytes(header.encode() + rows.tobytes() + faces.tobytes())


@dataclass(frozen=True)
class Seen:
    """What every (sub)pixel sees: arrays of shape ``(H, W)`` or ``(H, W, 3)``; part -1 is sky."""

    position: Array
    normal: Array
    depth: Array
    part: npt.NDArray[np.int32]
    face: npt.NDArray[np.int32]


class Renderer:
    """Hold one scene in the renderer: see it, test its shadows, light it by any sky."""

    def __init__(self, parts: list[Part], sun: bool, fixed: int | None = None) -> None:
        """Load the meshes; ``sun`` says whether the scene has a sun (see `light`)."""
        self.mi = mitsuba()
        self.bundles = bundle(parts, fixed)
        self.face_color = np.concatenate([b.colors[b.faces].mean(1) for b in self.bundles])
        self.face_heat = np.concatenate([b.heat_of_face for b in self.bundles])
        table = finishes({"type": "mesh_attribute", "name": "vertex_color"})
        scene: dict[str, Any] = {"type": "scene", "sky": self._sky()}
        if sun:
            color = {"type": "rgb", "value": [1.0, 1.0, 1.0]}
            scene["sun"] = {"type": "directional", "direction": [0, 0, -1], "irradiance": color}
        with tempfile.TemporaryDirectory() as folder:
            for n, b in enumerate(self.bundles):
                path = Path(folder) / f"{n}.ply"
                write_ply(path, b)
                bsdf = {"type": "twosided", "bsdf": table[b.finish]}
                scene[f"m{n:02d}"] = {"type": "ply", "filename": str(path), "bsdf": bsdf}
                if b.emission > 0:
                    glow = [b.emission, b.emission * 0.85, b.emission * 0.6]
                    radiance = {"type": "rgb", "value": glow}
                    scene[f"m{n:02d}"]["emitter"] = {"type": "area", "radiance": radiance}
            self.scene = self.mi.load_dict(scene)
        self.sun = sun

    def _sky(self) -> dict[str, Any]:
        black = np.zeros((SKY_ROWS, 2 * SKY_ROWS, 3), np.float32) + 1e-6
        turn = self.mi.ScalarTransform4f().rotate([1, 0, 0], 90)
        return {"type": "envmap", "bitmap": self.mi.Bitmap(black), "to_world": turn}

    def _order(self, index: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Turn the renderer's numbers of shapes into positions in ``bundles``."""
        shapes = {shape.id(): shape for shape in self.scene.shapes()}
        names = [f"m{n:02d}" for n in range(len(self.bundles))]
        if self.mi.variant().startswith("scalar"):
            order = [shape.id() for shape in self.scene.shapes()]
            numbers = [order.index(name) + 1 for name in names]  # 0 is the sky
        else:
            import drjit

            pointers = [self.mi.ShapePtr(shapes[name]) for name in names]
            numbers = [
                int(np.array(drjit.reinterpret_array(self.mi.UInt32, p))[0]) for p in pointers
            ]
        table = np.zeros(max([*numbers, int(index.max())]) + 1, np.int64)
        table[numbers] = np.arange(len(numbers))
        return table[index]

    def _sensor(self, camera: Camera, width: int, height: int, still: bool) -> Any:
        transform = self.mi.ScalarTransform4f().look_at(
            origin=list(camera.origin), target=list(camera.target), up=[0, 0, 1]
        )
        sampler = {"type": "stratified", "jitter": False} if still else {"type": "independent"}
        film = {
            "type": "hdrfilm",
            "width": width,
            "height": height,
            "rfilter": {"type": "box"},
            "component_format": "float32",
            "pixel_format": "rgb",
        }
        return self.mi.load_dict(
            {
                "type": "perspective",
                "fov": camera.fov,
                "to_world": transform,
                "film": film,
                "sampler": sampler,
                "near_clip": 0.05,
                "far_clip": 5000.0,
            }
        )

    def geometry(self, camera: Camera, width: int, height: int) -> Seen:
        """Find what the center of every pixel sees."""
        aovs = "p:position,n:sh_normal,d:depth,s:shape_index,f:prim_index"
        integrator = self.mi.load_dict({"type": "aov", "aovs": aovs})
        sensor = self._sensor(camera, width, height, True)
        image = self.mi.render(self.scene, sensor=sensor, integrator=integrator, spp=1)
        a = np.array(image, np.float32)[..., -9:]
        depth = a[..., 6]
        hit = depth > 0
        shape, face = a[..., 7].round().astype(np.int64), a[..., 8].round().astype(np.int64)
        starts = np.cumsum([0] + [len(b.faces) for b in self.bundles])
        owner = np.concatenate([b.part_of_face for b in self.bundles])
        index = np.where(hit, starts[self._order(shape)] + face, 0)
        part = np.where(hit, owner[index], -1).astype(np.int32)
        depth = np.where(hit, depth, np.inf).astype(np.float32)
        return Seen(a[..., :3], a[..., 3:6], depth, part, index.astype(np.int32))

    def unobstructed(self, start: Array, way: Array, far: Array) -> Array:
        """Return 1 where nothing stands within ``far`` meters of points along ``way``, else 0."""
        mi = self.mi
        if mi.variant().startswith("scalar"):
            rays = (
                mi.Ray3f(list(o), list(d), float(t), 0, [])
                for o, d, t in zip(start, way, far, strict=True)
            )
            return np.array([0.0 if self.scene.ray_test(ray) else 1.0 for ray in rays], np.float32)
        rays = mi.Ray3f(mi.Point3f(start.T.copy()), mi.Vector3f(way.T.copy()))
        rays.maxt = mi.Float(np.maximum(far, 1e-3).astype(np.float32))
        return 1.0 - np.array(self.scene.ray_test(rays)).astype(np.float32)

    def light(
        self, camera: Camera, light: Light, width: int, height: int, samples: int, seed: int
    ) -> Array:
        """Path-trace light of sky, sun and windows (not lamps); linear radiance ``(H, W, 3)``."""
        parameters = self.mi.traverse(self.scene)
        sky = environment_map(light, SKY_ROWS)
        columns = np.shape(parameters["sky.data"])[1] - sky.shape[1]  # a wrapped border
        sky = np.pad(sky, ((0, 0), (columns // 2, columns - columns // 2), (0, 0)), mode="wrap")
        parameters["sky.data"] = self.mi.TensorXf(sky)
        if self.sun:
            direction = -np.asarray(light.sun, float)
            aim = self.mi.ScalarTransform4f().look_at([0, 0, 0], list(direction), [0.3, 0.1, 0.9])
            parameters["sun.to_world"] = self.mi.Transform4f(aim.matrix)
            parameters["sun.irradiance.value"] = self.mi.Color3f(*light.sun_color)
        parameters.update()
        path = {"type": "path", "max_depth": 4, "rr_depth": 3, "hide_emitters": True}
        image = self.mi.render(
            self.scene,
            sensor=self._sensor(camera, width, height, False),
            integrator=self.mi.load_dict(path),
            spp=samples,
            seed=seed,
        )
        # A few paths out of millions come back as NaN; counted as dark, the filter fills them.
        return np.nan_to_num(np.array(image, np.float32)[..., :3], nan=0.0, posinf=0.0, neginf=0.0)
