"""Crops of the rendered set as quick fixtures: in memory, and as a folder with its truth."""

import functools

import torch
from PIL import Image

from ldf_utils.data.names import find_picture
from ldf_utils.data.pairs import PairFolder
from ldf_utils.data.sets import RENDERED, rendered_sets
from ldf_utils.data.truth import Truth

PARTS = ("ir", "vi", "oracle", "instances", "temperature")


@functools.cache
def _nights():
    """The training nights whose people stand out most in the oracle first, and where these are."""
    nights = rendered_sets("train")["RenderedNight"]
    known = {stem: Truth(nights.folder, stem) for stem in nights.names}
    people = {stem: truth.people & truth.warm for stem, truth in known.items()}

    def stands_out(stem):
        mask, oracle = people[stem], known[stem].oracle
        return (oracle[mask].mean() - oracle.mean()).item() if mask.sum() >= 150 else -1

    return nights, sorted(nights.names, key=stands_out, reverse=True), people


def _corner(mask, size):
    """Where a crop begins that is centered on the pixels of a mask, as far as it can be."""
    middle = [int(x.float().mean()) for x in mask[0].nonzero(as_tuple=True)]
    return [
        min(max(m - side // 2, 0), full - side)
        for m, side, full in zip(middle, size, mask.shape[-2:], strict=True)
    ]


def rendered_crops(count, size):
    """Infrared and visible luminance of nights with people, each ``(count, 1, *size)``."""
    nights, order, people = _nights()
    pictures = []
    for stem in order[:count]:
        pair = nights[nights.names.index(stem)]
        top, left = _corner(people[stem], size)
        both = torch.stack([pair.infrared, pair.luminance])
        pictures.append(both[..., top : top + size[0], left : left + size[1]])
    infrared, visible = torch.stack(pictures, 1)
    return infrared, visible


def write_crops(folder, count, size):
    """The same crops, visible in color and with their truth, as a set ``00000``, ``00001``, ..."""
    _, order, people = _nights()
    for number, stem in enumerate(order[:count]):
        top, left = _corner(people[stem], size)
        for part in PARTS:
            picture = Image.open(find_picture(RENDERED / "train" / part, stem))
            path = folder / part / f"{number:05d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.crop((left, top, left + size[1], top + size[0])).save(path)
    return PairFolder(folder)
