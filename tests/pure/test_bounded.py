"""What a process holds has a limit in bytes, is shown, and is given back."""

import gc

from homeserver.bounded import MEMORY, LruCache, Memory, Worth


class Texts:
    """Something that holds texts."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def bytes(self) -> int:
        return sum(map(len, self.texts))


def test_a_cache_stays_under_its_limit_and_forgets_what_was_not_used() -> None:
    cache: LruCache[int, str] = LruCache("texts", 10_000, len)
    for number in range(100):
        cache.put(number, "x" * 500)
        assert cache.get(0) is not None
        assert cache.cost <= 10_000
    assert 0 in cache
    assert 1 not in cache
    assert 99 in cache


def test_what_an_entry_cost_is_what_is_given_back_also_when_it_grew() -> None:
    cache: LruCache[str, list[str]] = LruCache("lists", 100_000, lambda x: 100 * len(x))
    grown = ["a"]
    cache.put("one", grown)
    before = cache.cost
    grown += ["b"] * 9
    cache.weigh("one")
    assert cache.cost == before + 900
    grown += ["c"] * 90  # nobody said so
    assert cache.pop("one") is grown
    assert cache.cost == 0


def test_one_entry_may_be_larger_than_the_limit_but_no_two() -> None:
    cache: LruCache[int, str] = LruCache("texts", 1000, len)
    cache.put(1, "x" * 5000)
    assert 1 in cache
    cache.put(2, "x" * 5000)
    assert list(cache) == [2]


def test_who_keeps_an_index_hears_of_what_was_dropped() -> None:
    index: dict[str, int] = {}

    def drop(number: int, text: str) -> None:
        assert index.pop(text) == number

    cache: LruCache[int, str] = LruCache("texts", 2000, 100, dropped=drop)
    for number in range(50):
        index[str(number)] = number
        cache.put(number, str(number))
    assert set(index.values()) == set(cache)


def test_the_metrics_see_the_sum_of_all_of_a_kind_while_they_are_there() -> None:
    memory = Memory()
    holder = Texts()
    memory.add_queue("texts", holder, Texts.bytes, 1000)
    other = Texts()
    memory.add_queue("texts", other, Texts.bytes, 1000)
    holder.texts.append("four")
    other.texts.append("six  ")
    (held,) = memory.held()
    assert (held.name, held.bytes, held.limit, held.hits) == ("texts", 9, 2000, None)
    del other
    gc.collect()
    assert [each.bytes for each in memory.held()] == [4]


def test_the_cheap_give_back_before_the_dear_and_the_needed_never() -> None:
    memory = Memory()
    caches: dict[Worth, LruCache[int, str]] = {}
    for worth in Worth:
        cache = caches[worth] = LruCache(worth.name, 1_000_000, 1000, worth)
        memory.add_cache(cache)
        for number in range(500):
            cache.put(number, "")
    sizes = {worth: cache.cost for worth, cache in caches.items()}

    freed = memory.give_back(100_000)
    assert 100_000 <= freed <= 110_000
    assert caches[Worth.CHEAP].cost == sizes[Worth.CHEAP] - freed
    assert caches[Worth.DEAR].cost == sizes[Worth.DEAR]

    memory.give_back(10_000_000)
    for worth in (Worth.CHEAP, Worth.DEAR):
        assert 0 < caches[worth].cost <= 1_000_000 // 16
        assert 499 in caches[worth]  # what was used last stays
    assert caches[Worth.NEEDED].cost == sizes[Worth.NEEDED]


def test_each_cache_is_known_to_the_process_as_long_as_it_is_there() -> None:
    cache: LruCache[int, str] = LruCache("a name of this test", 1000, 100)
    cache.put(1, "one")
    cache.get(1)
    cache.get(2)
    (held,) = [each for each in MEMORY.held() if each.name == cache.name]
    assert (held.bytes, held.limit, held.hits, held.misses) == (cache.cost, 1000, 1, 1)
    name = cache.name
    del cache
    gc.collect()
    assert name not in [each.name for each in MEMORY.held()]
