"""The persistent map behaves as a dict, and its shape depends on its content alone."""

from itertools import count

from hypothesis import given
from hypothesis import strategies as st

from homeserver.state import tree

CHANGES = st.lists(
    st.dictionaries(
        st.integers(1, 400), st.one_of(st.none(), st.integers(1, 2**40)), max_size=80
    ),
    max_size=8,
)


class Forest:
    """Nodes in memory, stored through their encoding."""

    def __init__(self):
        self.nodes = {}
        self.numbers = count(1)

    def update(self, root, changes):
        done = tree.run(
            tree.update(root, changes, lambda: next(self.numbers)), self.nodes
        )
        for nid, node in done.nodes:
            assert nid not in self.nodes
            self.nodes[nid] = tree.decode(tree.encode(node))
        return done.root

    def items(self, root):
        return tree.run(tree.items(root), self.nodes)

    def shape(self, root):
        if not root:
            return None
        node = self.nodes[root]
        if isinstance(node, tree.Leaf):
            return sorted(node.entries.items())
        return [self.shape(child) for child in node.children]


def apply(model, changes):
    model = dict(model)
    for key, value in changes.items():
        if value is None:
            model.pop(key, None)
        else:
            model[key] = value
    return model


@given(CHANGES)
def test_it_is_a_dict(steps):
    forest, root, model = Forest(), 0, {}
    history = [(0, {})]
    for changes in steps:
        root = forest.update(root, changes)
        model = apply(model, changes)
        history.append((root, model))
    for old_root, old_model in history:
        assert forest.items(old_root) == old_model
        found = tree.run(tree.get(old_root, range(1, 401)), forest.nodes)
        assert found == old_model


@given(CHANGES)
def test_its_shape_depends_on_its_content_alone(steps):
    forest, root, model = Forest(), 0, {}
    for changes in steps:
        root = forest.update(root, changes)
        model = apply(model, changes)
    assert forest.shape(root) == forest.shape(forest.update(0, model))


@given(CHANGES, CHANGES)
def test_the_difference_is_exact(left, right):
    forest = Forest()
    a, b, model_a, model_b = 0, 0, {}, {}
    for changes in left:
        a, model_a = forest.update(a, changes), apply(model_a, changes)
    b, model_b = a, model_a
    for changes in right:
        b, model_b = forest.update(b, changes), apply(model_b, changes)
    expected = {
        key: (model_a.get(key), model_b.get(key))
        for key in model_a.keys() | model_b.keys()
        if model_a.get(key) != model_b.get(key)
    }
    assert tree.run(tree.diff(a, b), forest.nodes) == expected


def test_one_change_in_a_large_room_writes_little():
    forest = Forest()
    root = forest.update(0, {key: key + 5_000_000 for key in range(1, 10_001)})
    before = len(forest.nodes)
    after = forest.update(root, {777: 9_999_999})
    new = [forest.nodes[nid] for nid in list(forest.nodes)[before:]]
    assert len(new) <= 4
    assert sum(len(tree.encode(node)) for node in new) <= 400
    assert tree.run(tree.diff(root, after), forest.nodes) == {
        777: (5_000_777, 9_999_999)
    }


def test_an_unchanged_update_keeps_the_root():
    forest = Forest()
    root = forest.update(0, dict.fromkeys(range(1, 100), 1))
    assert forest.update(root, {5: 1, 500: None}) == root
