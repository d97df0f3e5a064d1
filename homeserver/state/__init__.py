"""Room state as persistent maps (DESIGN 3).

Table: state_nodes, state_keys. `tree` is the map itself, pure; `states` keeps its nodes
in PostgreSQL and in a cache; `resolve` merges states of forked rooms.
"""
