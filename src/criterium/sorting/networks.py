"""Sorting and selection networks as lists of layers of comparators ``(low, high)``.

A comparator leaves the smaller of two wires' values on `low` and the larger on `high`; the comparators
of one layer share no wire. After the last layer the k largest values lie on the last k wires, ascending.
"""

from __future__ import annotations

from collections.abc import Callable

Layer = list[tuple[int, int]]


def odd_even(n: int, k: int) -> list[Layer]:
    """Odd-even transposition sort: n layers of neighbours, at even and at odd places by turns."""
    return _felt([[(low, low + 1) for low in range(layer % 2, n - 1, 2)] for layer in range(n)], n, k)


def bitonic(n: int, k: int) -> list[Layer]:
    """Batcher's bitonic sort: about log2(n)^2 / 2 layers.

    It is made for the next power of two; its first wires, and every comparator on them, are left out.
    """
    stages = (n - 1).bit_length()
    missing = 2**stages - n
    layers = []
    for block in range(stages):
        for half in (2**step for step in range(block, -1, -1)):
            pairs = [
                (start + place, start + place + half)
                for start in range(0, 2**stages, 2 * half)
                for place in range(half)
            ]
            # Blocks are sorted upwards and downwards by turns, so that two of them make a bitonic sequence.
            directed = [(b, a) if a >> (block + 1) & 1 else (a, b) for a, b in pairs]
            layers.append([(a - missing, b - missing) for a, b in directed if min(a, b) >= missing])
    return _felt(layers, n, k)


def splitter(n: int, k: int) -> list[Layer]:
    """Splitter selection: wires leave the race as soon as k others are known to hold more extreme values.

    Built for the k smallest and mirrored. `least_rank` is how many wires are known to hold smaller values.
    All wires with the same one meet at halving distances, each once a round: then the wire at place p of
    them is above 2^(ones in p) - 1 of the others. Ranks are taken from k - 1 down, then the next is settled.
    """
    least_rank = [0] * n
    next_layer = [0] * n
    layers: list[Layer] = []
    settled, changed = -1, True
    while changed:
        changed = False
        for rank in range(k - 1, settled, -1):
            lanes = [lane for lane in range(n) if least_rank[lane] == rank]
            if len(lanes) < 2:
                continue
            changed = True
            start = max(next_layer[lane] for lane in lanes)
            rounds = (len(lanes) - 1).bit_length()
            layers += [[] for _ in range(start + rounds - len(layers))]
            for turn in range(rounds):
                half = 2 ** (rounds - turn - 1)
                layers[start + turn] += [
                    (lanes[place], lanes[place + half])
                    for block in range(0, len(lanes), 2 * half)
                    for place in range(block, min(block + half, len(lanes) - half))
                ]
            for place, lane in enumerate(lanes):
                least_rank[lane] += 2 ** place.bit_count() - 1
                next_layer[lane] = start + rounds
        settled += 1
    return [[(n - 1 - high, n - 1 - low) for low, high in layer] for layer in layers]


def _felt(layers: list[Layer], n: int, k: int) -> list[Layer]:
    """Leave out the comparators that no path leads from to one of the last k wires."""
    reached = set(range(n - k, n))
    kept: list[Layer] = []
    for layer in reversed(layers):
        kept.append([pair for pair in layer if not reached.isdisjoint(pair)])
        reached.update(wire for pair in kept[-1] for wire in pair)
    return kept[::-1]


NETWORKS: dict[str, Callable[[int, int], list[Layer]]] = {
    "odd_even": odd_even,
    "bitonic": bitonic,
    "splitter": splitter,
}
