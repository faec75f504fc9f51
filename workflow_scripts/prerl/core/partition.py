"""Balanced partition of rows by length: verl's packing, our packed micro-batches, the parts of a sharded checkpoint."""

from __future__ import annotations

import heapq


def balanced_partition(lengths: list[int], parts: int, equal_size: bool) -> list[list[int]]:
    """Indices in `parts` groups of nearly equal sums by the largest differencing method (Karmarkar and Karp 1982).

    equal_size: every group gets len(lengths) / parts items. [8, 7, 6, 5, 4] in two gives sums 16 and 14.
    """

    def state(groups: list[tuple[int, int, list[int]]]) -> tuple:
        # (key, groups): groups of (sum, count, items), largest first; the key puts the largest spread first and settles
        # ties as verl does, by the larger first group
        groups = sorted(groups, reverse=True)
        total, count, items = groups[0]
        return (groups[-1][0] - total, -total, -count, [-item for item in items]), groups

    order = sorted(range(len(lengths)), key=lambda i: (lengths[i], i))
    step = parts if equal_size else 1
    heap = []
    for start in range(0, len(order), step):
        groups = [(lengths[i], 1, [i]) for i in order[start : start + step]]
        heap.append(state(groups + [(0, 0, [])] * (parts - len(groups))))
    heapq.heapify(heap)
    while len(heap) > 1:  # the two states of largest spread are merged, big groups with small ones
        first, second = heapq.heappop(heap)[1], heapq.heappop(heap)[1]
        pairs = zip(first, reversed(second), strict=True)
        heapq.heappush(heap, state([(a + b, m + n, x + y) for (a, m, x), (b, n, y) in pairs]))
    return [sorted(items) for _, _, items in heap[0][1]]


def parts_within(lengths: list[int], limit: int, parts: int, step: int = 1) -> list[list[int]]:
    """`balanced_partition` in the fewest of `parts`, `parts` + `step`, … whose sums are at most `limit`.

    An item above the limit is alone. [3, 3, 3, 3] with limit 6 from one part on gives two of two.
    """
    while True:
        cut = balanced_partition(lengths, parts, equal_size=False)
        if all(len(part) < 2 or sum(lengths[i] for i in part) <= limit for part in cut):
            return cut
        parts += step
