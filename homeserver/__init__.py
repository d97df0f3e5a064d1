"""What one Matrix server keeps and decides: storage, accounts, clients, federation.

`app.py` wires everything; each package's `__init__.py` is its chapter.
"""
