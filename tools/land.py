"""Make `scrapeopt/core/data/land.npz`, the outline of the land under every map, out of Natural Earth.

    npm pack world-atlas@2.0.2 && tar xzf world-atlas-2.0.2.tgz    # Natural Earth 4.1.0, 1:10m, as TopoJSON
    python tools/land.py package scrapeopt/core/data/land.npz
"""
import json
import sys
from pathlib import Path

import numpy as np
import shapely

GRID = 400  # steps a degree: 0.0025 degrees, some 250 m, finer than Natural Earth's 1:10m is right
TOLERANCE = (0.006, 0.04, 0.4)  # degrees, of the levels 0, 1 and 2: a city, a country, the world
POLAR = 60  # degrees: beyond, where shops are few and fjords many, level 1 is the finest
SMALLEST = 1e-3  # square degrees, some 10 km2: smaller islands are left out; beyond `POLAR` twenty times as large ones
SOUTHERNMOST = -60  # the Antarctic sells nothing


def arcs_of(topology: dict) -> list[np.ndarray]:  # each (n, 2) degrees
    "The lines that shapes are made of: steps on a grid, added up."
    scale, corner = (np.array(topology["transform"][key]) for key in ("scale", "translate"))
    return [np.cumsum(np.array(arc), axis=0) * scale + corner for arc in topology["arcs"]]


def polygons_of(topology: dict, name: str) -> list[list[list[int]]]:  # polygon -> ring -> arcs, ~i: backwards
    "The polygons of a collection."
    shapes = [s for s in topology["objects"][name]["geometries"] if s.get("arcs")]
    return [p for s in shapes for p in (s["arcs"] if s["type"] == "MultiPolygon" else [s["arcs"]])]


def unwrapped(line: np.ndarray) -> np.ndarray:
    "A line without the jump at 180 degrees, most of it between -180 and 180."
    lon = np.unwrap(line[:, 0], period=360)
    return np.column_stack([lon - 360 * np.round(np.median(lon) / 360), line[:, 1]])


def ring_of(arcs: list[np.ndarray], ids: list[int]) -> np.ndarray:
    "A ring, closed."
    parts = [arcs[i] if i >= 0 else arcs[~i][::-1] for i in ids]
    return unwrapped(np.concatenate([parts[0], *(p[1:] for p in parts[1:])]))


def with_levels(line: np.ndarray) -> tuple[np.ndarray, np.ndarray]:  # (n, 2) grid steps, (n,) uint8
    "The corners that Douglas and Peucker keep, each with the coarsest level that still has it."
    level = np.full(len(line), -1)
    for i, tolerance in enumerate(TOLERANCE):
        kept = set(map(tuple, np.asarray(shapely.simplify(shapely.LineString(line), tolerance).coords)))
        level[[tuple(corner) in kept for corner in line]] = i
    level[(level == 0) & (np.abs(line[:, 1]) > POLAR)] = -1
    corners, level = np.round(line[level >= 0] * GRID).astype(np.int32), level[level >= 0].astype(np.uint8)
    moved = np.r_[True, (np.diff(corners, axis=0) != 0).any(axis=1)]
    return corners[moved], level[moved]


def is_large(ring: np.ndarray) -> bool:
    "Whether a ring is large enough, and not the Antarctic's."
    middle = np.abs(ring[:, 1]).mean()
    area = shapely.Polygon(ring).area * np.cos(np.radians(middle))
    return ring[:, 1].max() > SOUTHERNMOST and area >= SMALLEST * (1 if middle < POLAR else 20)


def packed(lines: list[np.ndarray], name: str) -> dict[str, np.ndarray]:
    "Lines as arrays: where each starts, how many corners it has, the steps between them, and their levels."
    found = [(at, level) for at, level in map(with_levels, lines) if len(at) > 1]
    steps = np.concatenate([np.diff(at, axis=0) for at, _ in found])
    return {f"{name}_start": np.array([at[0] for at, _ in found]),
            f"{name}_corners": np.array([len(at) for at, _ in found], np.int32),
            f"{name}_steps": np.ascontiguousarray(steps.T).astype(np.int16, casting="same_kind"),
            f"{name}_level": np.concatenate([level for _, level in found])}


def main(folder: str, out: str) -> None:
    "Read the two topologies, write one file."
    land, countries = (json.loads(Path(folder, f"{name}-10m.json").read_text()) for name in ("land", "countries"))
    arcs = arcs_of(land)
    rings, hole = [], []
    for polygon in polygons_of(land, "land"):
        for i, ids in enumerate(polygon):
            if is_large(ring := ring_of(arcs, ids)):
                rings.append(ring)
                hole.append(i > 0)
    uses = np.zeros(len(countries["arcs"]), int)
    for polygon in polygons_of(countries, "countries"):
        for ids in polygon: np.add.at(uses, [i if i >= 0 else ~i for i in ids], 1)
    borders = [unwrapped(line) for line, n in zip(arcs_of(countries), uses, strict=True) if n > 1]
    np.savez_compressed(out, grid=GRID, hole=np.array(hole), **packed(rings, "shore"), **packed(borders, "border"))


if __name__ == "__main__": main(*sys.argv[1:])
