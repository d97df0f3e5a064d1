"""Two servers that talk: what `hearth demo` needs beyond the homeserver itself.

Nothing here takes part in serving; certificates are thrown away with the demo.
"""
